/** Devices that use simplified sliding sync, beside others that use /sync. */
import assert from "node:assert/strict";
import test from "node:test";

import { SlidingSync, SlidingSyncEvent } from "matrix-js-sdk/lib/sliding-sync.js";

import { heard, newcomer, newPerson, until } from "../people.mjs";
import { ask, told } from "../house.mjs";

const STATE = [
    ["m.room.create", ""],
    ["m.room.encryption", ""],
    ["m.room.name", ""],
    ["m.room.member", "$LAZY"],
    ["m.room.member", "$ME"],
];
const SUBSCRIBED = { timeline_limit: 50, required_state: [["*", "*"]] };

const slidingWith = (last, timeout = 2000) => (client) => {
    const list = { ranges: [[0, last]], timeline_limit: 1, required_state: STATE };
    return new SlidingSync(client.baseUrl, new Map([["all", list]]), SUBSCRIBED, client, timeout);
};

/** The sliding sync of a device that has started. */
const slidingOf = (device) => device.client.syncApi.slidingSync;

test("an encrypted conversation, from the invite on", async () => {
    const alice = await newcomer("alice");
    const bob = await (await newPerson("bob")).device({ sliding: slidingWith(20) });
    await bob.bootstrap();
    const { room_id: room } = await alice.client.createRoom({
        name: "Kitchen",
        invite: [bob.userId],
        initial_state: [
            { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } },
        ],
    });
    await until("bob is invited", () => bob.client.getRoom(room)?.getMyMembership() === "invite");
    await until("bob knows the name", () => bob.client.getRoom(room).name === "Kitchen");
    await bob.join(room);
    await alice.member(room, bob, "join");
    const messages = [];
    for (let number = 0; number < 5; number++) {
        messages.push(await heard(room, alice, [bob], `alice: ${number}`));
        messages.push(await heard(room, bob, [alice], `bob: ${number}`));
    }
    const ids = bob.client.getRoom(room).getLiveTimeline().getEvents().filter((each) => each.isEncrypted());
    assert.deepEqual(ids.map((each) => each.getId()), messages);

    await alice.client.sendTyping(room, true, 30_000);
    await until("bob sees alice type", () => bob.client.getRoom(room).getMember(alice.userId)?.typing);
    await alice.client.sendTyping(room, false, 0);
    await until("and stop", () => !bob.client.getRoom(room).getMember(alice.userId).typing);
    const last = alice.client.getRoom(room).findEventById(messages.at(-1));
    await alice.client.sendReadReceipt(last);
    await until("bob sees what alice has read", () =>
        bob.client.getRoom(room).getEventReadUpTo(alice.userId) === messages.at(-1));
    await alice.client.setRoomName(room, "Cellar");
    await until("bob sees the new name", () => bob.client.getRoom(room).name === "Cellar");
    await bob.client.setRoomTag(room, "m.favourite", { order: 0.5 });
    await until("bob sees the tag", () => "m.favourite" in bob.client.getRoom(room).tags);
    await alice.client.kick(room, bob.userId);
    await until("bob is thrown out", () => bob.client.getRoom(room).getMyMembership() === "leave");
});

test("many rooms: what is looked at is complete, over a restart of the server, too", async () => {
    const [alice, bob] = [await newcomer("alice"), await newPerson("bob")];
    const phone = await bob.device({ sliding: slidingWith(1) });
    await phone.bootstrap();
    const rooms = [];
    for (let number = 0; number < 4; number++) {
        rooms.push(await alice.newRoom([], { preset: "public_chat", name: `Room ${number}` }));
        await phone.client.joinRoom(rooms[number]);
        await alice.member(rooms[number], phone, "join");
    }
    await phone.isIn(rooms[3]);
    const ids = [];
    for (let number = 0; number < 20; number++) ids.push(await alice.say(rooms[0], `message ${number}`));
    await phone.reads(rooms[0], ids.at(-1), "message 19");

    let begunAnew = 0;
    const sliding = slidingOf(phone);
    sliding.on(SlidingSyncEvent.RoomData, (_room, data) => (begunAnew += Boolean(data.initial)));
    await ask("stop", { server: Object.keys(told.servers)[0] });
    await ask("start", { server: Object.keys(told.servers)[0] });
    const before = begunAnew;
    const again = await alice.say(rooms[0], "again");
    await phone.reads(rooms[0], again, "again");
    assert.equal(begunAnew, before);

    sliding.modifyRoomSubscriptions(new Set([rooms[0]]));
    const room = phone.client.getRoom(rooms[0]);
    const shown = () => room.getLiveTimeline().getEvents().filter((each) => each.isEncrypted());
    await until(() => `all messages, not ${shown().length}`, () => shown().length === 21);
    assert.deepEqual(shown().map((each) => each.getId()), [...ids, again]);
    sliding.setListRanges("all", [[0, 9]]);
    for (const each of rooms) await phone.isIn(each);
    assert.equal(sliding.getListData("all").joinedCount, 4);
});
