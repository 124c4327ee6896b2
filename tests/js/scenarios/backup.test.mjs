/** Keys kept on the server: uploaded as they come, restored on a new device, in a new version after a reset. */
import assert from "node:assert/strict";
import test from "node:test";

import { heard, newcomer, twoDevices, until } from "../people.mjs";

test("key backup", async (t) => {
    const [alice, bob] = await Promise.all([newcomer("alice"), newcomer("bob")]);
    const room = await alice.newRoom([bob], { encryption: { rotation_period_msgs: 1 } });
    const messages = [];
    for (let number = 0; number < 15; number++) {
        for (const each of [alice, bob]) {
            const body = `${each.name}: ${number}`;
            messages.push([await heard(room, each, [alice, bob], body), body]);
        }
    }
    await alice.backedUp(messages.length);

    await t.test("a new device restores all with the recovery key", async () => {
        const laptop = await alice.person.trustedDevice();
        const { total, imported } = await laptop.crypto.restoreKeyBackup();
        assert.deepEqual({ total, imported }, { total: messages.length, imported: messages.length });
        await laptop.isIn(room);
        for (const [id, body] of messages.slice(-20)) await laptop.reads(room, id, body);
    });

    await t.test("a new device fetches one key after the other, as it needs them", async () => {
        const tablet = await alice.person.trustedDevice();
        await tablet.isIn(room);
        for (const [id, body] of messages.slice(-20)) await tablet.reads(room, id, body);
    });

    await t.test("a new version takes the place of the old one, for all devices", async () => {
        const before = await alice.backedUp(messages.length);
        await alice.crypto.resetKeyBackup();
        const { version, etag } = await alice.crypto.getKeyBackupInfo();
        assert.notEqual(version, before.version);
        const after = await alice.backedUp(messages.length);
        assert.equal(after.version, version);
        assert.notEqual(after.etag, etag);
        const desk = await alice.person.trustedDevice();
        assert.equal(await desk.crypto.getActiveSessionBackupVersion(), version);
        assert.equal((await desk.crypto.restoreKeyBackup()).imported, messages.length);
    });
});

test("devices of one person restore each other's keys", async () => {
    const [alice, laptop] = await twoDevices("alice");
    const room = await alice.newRoom();
    await laptop.isIn(room);
    const words = [await alice.say(room, "from one"), await laptop.say(room, "from the other")];
    await alice.backedUp(2);
    await Promise.all([alice, laptop].map((each) => each.client.logout(true)));
    const desk = await alice.person.trustedDevice();
    await desk.reads(room, words[0], "from one");
    await desk.reads(room, words[1], "from the other");
});
