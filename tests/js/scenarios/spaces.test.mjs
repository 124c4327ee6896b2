/** Spaces and what is in them, rooms for the members of others, knocking, and rooms that are upgraded. */
import assert from "node:assert/strict";
import test, { before } from "node:test";

import { EventType, JoinRule, RoomType } from "matrix-js-sdk";
import { RoomHierarchy } from "matrix-js-sdk/lib/room-hierarchy.js";

import { mute, newPerson, until } from "../people.mjs";

let alice, bob;
before(async () => {
    [alice, bob] = await Promise.all(["alice", "bob"].map(async (name) => (await newPerson(name)).device()));
});

const joinRule = (content) => ({ type: EventType.RoomJoinRules, state_key: "", content });
const via = ["tiny.test"];

async function newSpace(options) {
    const { room_id: space } = await alice.client.createRoom({ creation_content: { type: RoomType.Space }, ...options });
    await alice.isIn(space, { encrypted: false });
    return space;
}

test("a space with rooms for its members: seen page by page, joined by those who are in it", async () => {
    const space = await newSpace({ name: "House", preset: "public_chat", visibility: "public" });
    const cellar = await newSpace({ name: "Cellar", preset: "public_chat" });
    const allow = [{ type: "m.room_membership", room_id: space }];
    const state = [joinRule({ join_rule: JoinRule.Restricted, allow })];
    const rooms = {};
    for (const name of ["Attic", "Bath", "Kitchen"])
        rooms[name] = (await alice.client.createRoom({ name, initial_state: state })).room_id;
    const secret = (await alice.client.createRoom({ name: "Secret" })).room_id;
    const wine = (await alice.client.createRoom({ name: "Wine", preset: "public_chat" })).room_id;
    const link = (parent, child, content = {}) =>
        alice.client.sendStateEvent(parent, EventType.SpaceChild, { via, ...content }, child);
    await link(space, rooms.Kitchen, { order: "a", suggested: true });
    await link(space, rooms.Attic, { order: "b" });
    await link(space, rooms.Bath, { order: "c" });
    await link(space, cellar, { order: "d" });
    await link(space, secret, { order: "e" });
    await link(cellar, wine);

    const summary = await bob.client.getRoomSummary(space, via);
    assert.equal(summary.name, "House");
    assert.equal(summary.room_type, RoomType.Space);
    assert.equal(summary.membership ?? "leave", "leave");
    await assert.rejects(bob.client.joinRoom(rooms.Kitchen), { errcode: "M_FORBIDDEN" });
    await bob.join(space, { encrypted: false });

    const whole = async (...options) => {
        const hierarchy = new RoomHierarchy(bob.client.getRoom(space), ...options);
        do {
            await hierarchy.load();
        } while (hierarchy.canLoadMore);
        assert.ok(!hierarchy.noSupport);
        return hierarchy;
    };
    const names = (hierarchy) => hierarchy.rooms.map((each) => each.name);
    const hierarchy = await whole(2);
    assert.deepEqual(names(hierarchy), ["House", "Kitchen", "Attic", "Bath", "Cellar", "Wine"]);
    assert.ok(hierarchy.isSuggested(space, rooms.Kitchen));
    assert.ok(!hierarchy.isSuggested(space, rooms.Attic));
    assert.deepEqual([...hierarchy.viaMap.get(rooms.Kitchen)], via);
    assert.deepEqual(names(await whole(10, 1)), ["House", "Kitchen", "Attic", "Bath", "Cellar"]);
    assert.deepEqual(names(await whole(10, undefined, true)), ["House", "Kitchen"]);

    await bob.join(rooms.Kitchen, { encrypted: false });
    const member = bob.client.getRoom(rooms.Kitchen).getMember(bob.userId);
    assert.equal(member.events.member.getContent().join_authorised_via_users_server, alice.userId);
    assert.ok((await bob.client.getRoomHierarchy(space)).rooms.some((each) => each.room_id === rooms.Kitchen));
});

test("somebody knocks and is let in", async () => {
    const { room_id: room } = await alice.client.createRoom({ initial_state: [joinRule({ join_rule: JoinRule.Knock })] });
    await alice.isIn(room, { encrypted: false });
    await bob.client.knockRoom(room, { reason: "It rains" });
    await until("bob knows that he knocks", () => bob.client.getRoom(room)?.getMyMembership() === "knock");
    await alice.member(room, bob, "knock");
    await alice.client.invite(room, bob.userId);
    await until("bob is invited", () => bob.client.getRoom(room).getMyMembership() === "invite");
    await bob.join(room, { encrypted: false });
});

test("an upgraded room: what it was like, who may speak, and where it went", async () => {
    const power = { users: { [alice.userId]: 100, [bob.userId]: 25 } };
    const room = await alice.newPlainRoom([bob], {
        ...{ name: "Old house", room_version: "10", preset: "public_chat", room_alias_name: `house-${Date.now()}` },
        ...{ topic: "Bricks", power_level_content_override: power },
    });
    const alias = await until("the alias", () => alice.client.getRoom(room).getCanonicalAlias());
    await bob.client.setRoomTag(room, "m.favourite", { order: 0.25 });
    await mute(bob, room);
    await assert.rejects(bob.client.upgradeRoom(room, "12"), { errcode: "M_FORBIDDEN" });
    const { replacement_room: next } = await alice.client.upgradeRoom(room, "12");

    const tombstone = await until("the tombstone", () =>
        bob.client.getRoom(room).currentState.getStateEvents(EventType.RoomTombstone, ""));
    assert.equal(tombstone.getContent().replacement_room, next);
    await bob.join(next, { encrypted: false });
    const there = bob.client.getRoom(next);
    assert.equal(there.getVersion(), "12");
    assert.equal(there.name, "Old house");
    assert.equal(there.findPredecessor().roomId, room);
    assert.deepEqual(
        bob.client.getRoomUpgradeHistory(next, true).map((each) => each.roomId),
        [room, next],
    );
    assert.equal((await bob.client.getRoomIdForAlias(alias)).room_id, next);
    await until("bob keeps his power", () => there.getMember(bob.userId)?.powerLevel === 25);
    assert.equal(there.getMember(alice.userId).powerLevel, Infinity);
    await until("and the tag", () => "m.favourite" in there.tags);
    await until("and that it is mute", () =>
        bob.client.pushRules.global.override.some((each) => each.conditions?.[0]?.pattern === next));
    await assert.rejects(bob.client.sendMessage(room, { msgtype: "m.text", body: "still here?" }), { errcode: "M_FORBIDDEN" });
});
