/** Mail addresses as matrix-js-sdk uses them: registering, adding one, mails about missed messages, a new password. */
import assert from "node:assert/strict";
import { test } from "node:test";

import { AuthType, createClient, InteractiveAuth } from "matrix-js-sdk";

import { ask, told } from "../house.mjs";
import { until } from "../people.mjs";

const baseUrl = told.servers.tiny;
const password = "wonderland-1865";

/** Somebody opens the link in the newest mail to an address, and presses the button. */
const confirm = (address) => ask("confirm", { address });

/** Register with a mail address, as a client with a form for it does. */
async function register(username, address) {
    const client = createClient({ baseUrl });
    const clientSecret = client.generateClientSecret();
    let sid;
    const auth = new InteractiveAuth({
        matrixClient: client,
        clientSecret,
        inputs: { emailAddress: address },
        doRequest: (data) => client.registerRequest({ username, password, auth: data ?? undefined }),
        requestEmailToken: async (email, secret, attempt) => {
            const answer = await client.requestRegisterEmailToken(email, secret, attempt);
            sid = answer.sid;
            return answer;
        },
        stateUpdated: () => {},
    });
    const done = auth.attemptAuth();
    await until("the mail is on its way", () => sid && auth.getEmailSid());
    assert.equal(auth.getChosenFlow().stages.includes(AuthType.Email), true);
    await auth.poll(); // not confirmed yet: nothing happens
    await confirm(address);
    await until("the account is there", async () => {
        auth.poll();
        return Promise.race([done, new Promise((resolve) => setTimeout(resolve, 100, null))]);
    });
    const { user_id: userId, access_token: accessToken, device_id: deviceId } = await done;
    return createClient({ baseUrl, userId, accessToken, deviceId });
}

const byPassword = (userId) => ({ type: "m.login.password", identifier: { type: "m.id.user", user: userId }, password });

test("an account with a mail address, another address, and a lost password", async () => {
    const [first, second] = ["js-first@example.org", "js-second@example.org"];
    const client = await register("js-by-mail", first);
    const userId = client.getUserId();
    const addresses = async () => (await client.getThreePids()).threepids.map((each) => each.address);
    assert.deepEqual(await addresses(), [first]);
    assert.equal((await client.getCapabilities())["m.3pid_changes"].enabled, true);

    const secret = client.generateClientSecret();
    const { sid } = await client.requestAdd3pidEmailToken(second, secret, 1);
    const add = { sid, client_secret: secret };
    await assert.rejects(client.addThreePidOnly({ ...add, auth: byPassword(userId) }), { errcode: "M_THREEPID_AUTH_FAILED" });
    await confirm(second);
    await assert.rejects(client.addThreePidOnly(add), { httpStatus: 401 });
    await client.addThreePidOnly({ ...add, auth: byPassword(userId) });
    assert.deepEqual(await addresses(), [first, second]);

    await client.setPusher({
        kind: "email", app_id: "m.email", pushkey: second, app_display_name: "Email Notifications",
        device_display_name: second, lang: "en", data: {}, append: true,
    });
    assert.deepEqual((await client.getPushers()).pushers.map((each) => [each.kind, each.pushkey]), [["email", second]]);
    await client.deleteThreePid("email", second);
    assert.deepEqual((await client.getPushers()).pushers, []);

    const anybody = createClient({ baseUrl });
    const lost = anybody.generateClientSecret();
    const session = await anybody.requestPasswordEmailToken(first, lost, 1);
    const creds = { sid: session.sid, client_secret: lost };
    const proof = { type: "m.login.email.identity", threepid_creds: creds, threepidCreds: creds };
    await assert.rejects(anybody.setPassword(proof, "looking-glass-1871", true), { httpStatus: 401 });
    await confirm(first);
    await anybody.setPassword(proof, "looking-glass-1871", true);
    await assert.rejects(client.whoami(), { errcode: "M_UNKNOWN_TOKEN" });
    const again = await anybody.loginRequest({
        type: "m.login.password",
        identifier: { type: "m.id.thirdparty", medium: "email", address: first },
        password: "looking-glass-1871",
    });
    assert.equal(again.user_id, userId);
});
