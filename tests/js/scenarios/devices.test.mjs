/** A dehydrated device that takes messages while no other is there, and encrypted messages between devices. */
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import test from "node:test";

import { CryptoEvent } from "matrix-js-sdk/lib/crypto-api/index.js";

import { heard, newcomer, until } from "../people.mjs";

test("a dehydrated device takes the keys while nobody is logged in", async () => {
    const [alice, bob] = await Promise.all([newcomer("alice"), newcomer("bob")]);
    assert.ok(await alice.crypto.isDehydrationSupported());
    await alice.crypto.startDehydration();
    const room = await alice.newRoom([bob], { encryption: { rotation_period_msgs: 2 } });
    await heard(room, bob, [alice], "hello");
    const devices = (await alice.client.getDevices()).devices.map((each) => each.device_id);
    assert.equal(devices.length, 2);
    const [sleeping] = devices.filter((each) => each !== alice.id);
    await bob.sees(alice.userId, alice.id, sleeping);
    await alice.client.logout(true);
    await bob.sees(alice.userId, sleeping);
    const messages = [];
    for (let number = 0; number < 9; number++) messages.push(await bob.say(room, `while you were out: ${number}`));

    const laptop = await alice.person.trustedDevice();
    let done = false;
    laptop.client.on(CryptoEvent.RehydrationCompleted, () => (done = true));
    await laptop.crypto.startDehydration();
    assert.ok(done);
    await laptop.isIn(room);
    for (const [number, id] of messages.entries()) await laptop.reads(room, id, `while you were out: ${number}`);
    // The old one has done its duty, and the next lies down.
    await until("another takes its place", async () => {
        const now = (await laptop.client.getDevices()).devices.map((each) => each.device_id);
        return now.length === 2 && now.includes(laptop.id) && !now.includes(sleeping);
    });
});

test("encrypted messages between devices arrive once, whether the device listens or not", async () => {
    const [alice, bob] = await Promise.all([newcomer("alice"), newcomer("bob")]);
    const laptop = await alice.person.trustedDevice({ store: "laptop" });
    const room = await alice.newRoom([bob]);
    await laptop.isIn(room);
    await heard(room, bob, [alice, laptop], "so that they know each other");
    const addressed = [alice, laptop].map((each) => ({ userId: each.userId, deviceId: each.id }));
    const arrived = (device) => device.toDevice.filter(({ message }) => message.type === "org.example.ping");
    const numbers = (device) => arrived(device).map(({ message }) => message.content.number);
    laptop.stop();
    for (let number = 0; number < 5; number++) {
        await bob.client.encryptAndSendToDevice("org.example.ping", addressed, { number });
    }
    await until("all are there", () => arrived(alice).length === 5);
    await laptop.start();
    await until("all are there", () => arrived(laptop).length >= 5);
    await heard(room, bob, [alice, laptop], "and that is all");
    for (const device of [alice, laptop]) {
        assert.deepEqual(numbers(device), [0, 1, 2, 3, 4]);
        for (const { message, encryptionInfo } of arrived(device)) {
            assert.equal(message.sender, bob.userId);
            assert.equal(encryptionInfo.senderDevice, bob.id);
        }
    }
});
