/** Cross-signing, secret storage, comparing emoji, and devices that come and go. */
import assert from "node:assert/strict";
import test from "node:test";

import { OnlySignedDevicesIsolationMode } from "matrix-js-sdk/lib/crypto-api/index.js";

import { compareEmoji, heard, newcomer, until } from "../people.mjs";

const trusts = async (device, other) =>
    (await device.crypto.getDeviceVerificationStatus(other.userId, other.id))?.crossSigningVerified;
const verified = async (device, other) =>
    (await device.crypto.getUserVerificationStatus(other.userId)).isCrossSigningVerified();

test("two people with two devices each verify each other", async (t) => {
    const [phone, bob] = await Promise.all([newcomer("alice"), newcomer("bob")]);
    const [laptop, tablet] = await Promise.all([phone.person.device(), bob.person.device()]);
    let room;

    await t.test("second devices are verified by the first, and get the keys from it", async () => {
        for (const [second, first] of [[laptop, phone], [tablet, bob]]) {
            await first.sees(first.userId, first.id, second.id);
            assert.ok(!(await trusts(first, second)));
            await compareEmoji(await second.crypto.requestOwnUserVerification(), first);
            await until("the other trusts it", () => trusts(first, second));
            await until("it has the keys", () => second.crypto.isCrossSigningReady());
            await until("it has the backup's", () => second.crypto.getSessionBackupPrivateKey());
        }
    });

    await t.test("users verify each other in a room, which all their devices hear of", async () => {
        room = await phone.newRoom([bob], { preset: "trusted_private_chat", is_direct: true });
        await Promise.all([laptop, tablet].map((each) => each.isIn(room)));
        await compareEmoji(await phone.crypto.requestVerificationDM(bob.userId, room), bob);
        for (const mine of [phone, laptop]) {
            for (const theirs of [bob, tablet]) {
                await until(`${mine.name} verified`, () => verified(mine, theirs));
                await until(`${theirs.name} verified`, () => verified(theirs, mine));
                await until("the device is trusted", () => trusts(mine, theirs));
                await until("the device is trusted", () => trusts(theirs, mine));
            }
        }
    });

    await t.test("a device that nobody signed is seen, and gets no keys from those who want signed ones", async () => {
        const stranger = await bob.person.device();
        await phone.sees(bob.userId, bob.id, tablet.id, stranger.id);
        await stranger.isIn(room);
        assert.ok(!(await trusts(phone, stranger)));
        await heard(room, phone, [laptop, bob, tablet, stranger], "for all");
        phone.crypto.setDeviceIsolationMode(new OnlySignedDevicesIsolationMode());
        const secret = await heard(room, phone, [laptop, bob, tablet], "for the signed");
        assert.match(await stranger.cannotRead(room, secret), /WITHHELD/);

        await bob.client.deleteDevice(stranger.id).then(
            () => assert.fail("no password was asked for"),
            (error) => assert.equal(error.httpStatus, 401),
        );
        await bob.authenticated()((auth) => bob.client.deleteDevice(stranger.id, auth ?? undefined));
        await until("it is logged out", () => stranger.loggedOut);
        for (const each of [phone, laptop, bob]) await each.sees(bob.userId, bob.id, tablet.id);
        await heard(room, laptop, [phone, bob, tablet], "after it has gone");
    });

    await t.test("new keys of a user need the password, and others are warned", async () => {
        let asked = 0;
        await bob.crypto.resetEncryption(bob.authenticated(() => asked++));
        assert.equal(asked, 1);
        for (const mine of [phone, laptop]) {
            await until("the warning", async () => {
                const status = await mine.crypto.getUserVerificationStatus(bob.userId);
                return status.wasCrossSigningVerified() && !status.isCrossSigningVerified();
            });
        }
        const request = await phone.crypto.requestDeviceVerification(bob.userId, bob.id);
        await compareEmoji(request, bob);
        await until("verified again", () => verified(laptop, bob));
    });
});
