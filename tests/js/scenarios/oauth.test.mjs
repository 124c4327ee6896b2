/** Signing in with a web browser as matrix-js-sdk does it: the client registers itself, gets a code, refreshes, signs out. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { createClient, OAuth2 } from "matrix-js-sdk";

import { ask, told } from "../house.mjs";

const baseUrl = told.servers.tiny;
// A native client listens at a port that it does not know yet when it registers itself.
const { redirectUri, registeredUri, applicationType } = told;

/** A client that has registered itself, at the server of that metadata. */
const newClient = (metadata) => OAuth2.registerClient(metadata, {
    client_name: "Scenario",
    client_uri: "https://app.example.com/",
    redirect_uris: [registeredUri],
    application_type: applicationType,
});

test("a client signs its user in, stays signed in, and signs out", async () => {
    const metadata = await createClient({ baseUrl }).getAuthMetadata();
    const clientId = await newClient(metadata);
    const oauth = new OAuth2(metadata, { clientId });
    const url = await oauth.generateAuthorizationCodeGrantUrl("the-state", redirectUri);
    const { location, user_id: userId } = await ask("agree", { url });
    const answer = new URLSearchParams(new URL(location).hash.slice(1));
    assert.equal(answer.get("state"), "the-state");

    const first = await oauth.completeAuthorizationCodeGrant(answer.get("code"), redirectUri);
    const deviceId = oauth.context.deviceId;
    const whoami = (token) => createClient({ baseUrl, accessToken: token }).whoami();
    assert.deepEqual(await whoami(first.access_token), { user_id: userId, device_id: deviceId, is_guest: false });

    const second = await oauth.performRefreshTokenGrant(first.refresh_token);
    assert.equal((await whoami(second.access_token)).device_id, deviceId);
    await assert.rejects(whoami(first.access_token), { errcode: "M_UNKNOWN_TOKEN" });

    await oauth.revokeToken(second.access_token, "access_token");
    await assert.rejects(whoami(second.access_token), { errcode: "M_UNKNOWN_TOKEN" });
    await assert.rejects(oauth.performRefreshTokenGrant(second.refresh_token), { httpStatus: 400 });
});

test("a client is signed in by a code that its user types elsewhere", async () => {
    const metadata = await createClient({ baseUrl }).getAuthMetadata();
    const clientId = await newClient(metadata);
    const oauth = new OAuth2(metadata, { clientId });
    const session = await oauth.startDeviceAuthorizationGrant();
    const { user_id: userId } = await ask("agree", { url: session.verification_uri_complete });
    const tokens = await oauth.waitForDeviceAuthorizationGrant(session);
    const me = await createClient({ baseUrl, accessToken: tokens.access_token }).whoami();
    assert.deepEqual(me, { user_id: userId, device_id: oauth.context.deviceId, is_guest: false });
});
