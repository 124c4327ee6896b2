/** Four devices write, each as fast as it can, while the server is killed again and again. Every device reads all. */
import assert from "node:assert/strict";
import test from "node:test";

import { ask, told } from "../house.mjs";
import { twoDevices } from "../people.mjs";

test("every device decrypts every message", async () => {
    const [[alice, laptop], [bob, tablet]] = await Promise.all([twoDevices("alice"), twoDevices("bob")]);
    const devices = [alice, laptop, bob, tablet];
    // Keys change often, so that many of them are on their way when the server goes.
    const room = await alice.newRoom([bob], { encryption: { rotation_period_msgs: told.rotation } });
    for (const each of devices) await each.isIn(room);

    const sent = new Map();
    const write = async (device) => {
        let id;
        for (let number = 0; number < told.messages / devices.length; number++) {
            const body = `${device.name}: ${number}`;
            id = await device.sayStubbornly(room, body);
            assert.ok(!sent.has(id), "one event for two messages");
            sent.set(id, body);
            await ask("sent", { count: sent.size });
        }
        return id;
    };
    const started = Date.now();
    const last = await Promise.all(devices.map(write));
    const seconds = (Date.now() - started) / 1000;
    for (const device of devices) {
        for (const id of last) await device.event(room, id);
        const shown = (await device.history(room)).map((event) => event.getId());
        assert.equal(shown.length, sent.size);
        assert.deepEqual(new Set(shown), new Set(sent.keys()));
        for (const [id, body] of sent) await device.reads(room, id, body);
    }
    await ask("done", { sent: sent.size, devices: devices.length, seconds });
});
