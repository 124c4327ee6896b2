/** Encrypted rooms: who can read what, when keys are changed, people come and go, and devices were away. */
import "fake-indexeddb/auto";
import assert from "node:assert/strict";
import test from "node:test";

import { ask } from "../house.mjs";
import { heard, newcomer, sessionOf, twoDevices, until } from "../people.mjs";

const history = (visibility) => ({
    type: "m.room.history_visibility",
    state_key: "",
    content: { history_visibility: visibility },
});

test("encrypted rooms", async (t) => {
    const [[alice, laptop], [bob, tablet], carol] = await Promise.all([
        twoDevices("alice"),
        twoDevices("bob"),
        newcomer("carol"),
    ]);
    const four = [alice, laptop, bob, tablet];

    await t.test("every device reads every other", async () => {
        const room = await alice.newRoom([bob]);
        for (const each of four) await each.isIn(room);
        for (const each of four) await heard(room, each, four, `from ${each.name}`);
    });

    await t.test("keys change after as many messages as the room says", async () => {
        const room = await alice.newRoom([bob], { encryption: { rotation_period_msgs: 3 } });
        for (const each of four) await each.isIn(room);
        const sessions = new Set();
        for (let number = 0; number < 10; number++) {
            const id = await heard(room, alice, four, `message ${number}`);
            sessions.add(sessionOf(await tablet.event(room, id)));
        }
        assert.equal(sessions.size, 4);
    });

    await t.test("who was removed reads nothing more", async () => {
        const room = await alice.newRoom([bob, carol]);
        const before = await heard(room, alice, [bob, carol], "the three of us");
        await alice.client.kick(room, carol.userId);
        for (const each of [alice, bob, carol]) await each.member(room, carol, "leave");
        const without = await heard(room, alice, [bob, tablet], "the two of us");
        assert.notEqual(sessionOf(await bob.event(room, before)), sessionOf(await bob.event(room, without)));
        assert.equal(carol.client.getRoom(room).findEventById(without), undefined);
    });

    await t.test("who comes late reads what comes then", async () => {
        const room = await alice.newRoom([bob], { preset: "public_chat", state: [history("joined")] });
        const early = await heard(room, alice, [bob, tablet], "before");
        await carol.join(room);
        await Promise.all([alice, bob].map((each) => each.member(room, carol, "join")));
        await heard(room, alice, [laptop, bob, tablet, carol], "after");
        await heard(room, carol, four, "hello all");
        const timeline = carol.client.getRoom(room).getLiveTimeline();
        await carol.client.paginateEventTimeline(timeline, { backwards: true, limit: 100 });
        assert.equal(carol.client.getRoom(room).findEventById(early), undefined, "it was before her time");
        await carol.client.leave(room);
        await alice.member(room, carol, "leave");
        await heard(room, bob, four, "she has gone");
    });

    await t.test("who comes late gets earlier messages without their keys where history is shared", async () => {
        const room = await alice.newRoom([bob], { preset: "public_chat", state: [history("shared")] });
        const early = await heard(room, alice, [bob, tablet], "before");
        await carol.join(room);
        await carol.cannotRead(room, early);
        await alice.member(room, carol, "join");
        await heard(room, alice, [bob, carol], "after");
    });

    await t.test("a device that was switched off finds everything, also after the server was killed", async () => {
        const away = await bob.person.trustedDevice({ store: "away" });
        const room = await alice.newRoom([bob], { encryption: { rotation_period_msgs: 2 } });
        await Promise.all([laptop, tablet, away].map((each) => each.isIn(room)));
        await heard(room, alice, [...four, away], "before");
        away.stop();
        const messages = [];
        for (let number = 0; number < 6; number++) {
            if (number === 3) {
                await ask("kill", { server: "tiny" });
                await ask("start", { server: "tiny" });
            }
            const body = `message ${number}`;
            messages.push([await heard(room, four[number % 4], four, body), body]);
        }
        await away.start();
        for (const [id, body] of messages) await away.reads(room, id, body);
        await heard(room, away, four, "back again");
    });
});

test("keys of earlier messages come with the invitation", async () => {
    const [alice, bob, dora] = await Promise.all([newcomer("alice"), newcomer("bob"), newcomer("dora")]);
    const room = await alice.newRoom([bob], { state: [history("shared")] });
    const early = await Promise.all([alice, bob].map((each) => heard(room, each, [alice, bob], `from ${each.name}`)));
    await bob.client.invite(room, dora.userId);
    await until("the invitation", () => dora.client.getRoom(room)?.getMyMembership() === "invite");
    await dora.join(room);
    await dora.reads(room, early[0], `from ${alice.name}`);
    await dora.reads(room, early[1], `from ${bob.name}`);
});
