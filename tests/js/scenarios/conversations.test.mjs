/** Threads, edits, reactions, unread counts, push rules, past notifications and search, as a web client has them. */
import assert from "node:assert/strict";
import test, { before } from "node:test";

import {
    EventStatus, EventType, MsgType, NotificationCountType, PushRuleActionName, PushRuleKind, RelationType,
} from "matrix-js-sdk";

import { SlidingSync } from "matrix-js-sdk/lib/sliding-sync.js";

import { mute, newPerson, until } from "../people.mjs";

const { Total, Highlight } = NotificationCountType;
const text = (body, more = {}) => ({ msgtype: MsgType.Text, body, ...more });

let alice, bob;
before(async () => {
    [alice, bob] = await Promise.all(["alice", "bob"].map(async (name) => (await newPerson(name)).device()));
});

/** A room of Alice's that Bob is in. */
async function room(options) {
    const id = await alice.newPlainRoom([bob], options);
    await alice.member(id, bob, "join");
    return id;
}

/** Send a message with anything in it; its event ID. */
const send = async (who, where, content, thread = null) =>
    (await who.client.sendMessage(where, thread, content)).event_id;

/** Open a thread that begins with an event, as one does to write into it. */
async function open(who, where, root) {
    const event = await who.event(where, root);
    const here = who.client.getRoom(where);
    const thread = here.getThread(root) ?? here.createThread(root, event, [], true);
    await until("the thread is fetched", () => thread.initialEventsFetched);
    return thread;
}

test("a thread: who is in it, what is unread in it, and the list of threads on a new device", async () => {
    const id = await room();
    const root = await alice.say(id, "What shall we eat?");
    const other = await alice.say(id, "Something else");
    await open(bob, id, root);
    const first = await send(bob, id, text("Soup"), root);
    const thread = await until("alice has the thread", () => alice.client.getRoom(id).getThread(root));
    await until("and Bob's answer", () => thread.events.some((each) => each.getId() === first));
    assert.equal(thread.length, 1);
    assert.equal(thread.hasCurrentUserParticipated, false);

    const counts = () => {
        const here = alice.client.getRoom(id);
        return [here.getThreadUnreadNotificationCount(root, Total), here.getRoomUnreadNotificationCount(Total)];
    };
    await until(() => `one unread in the thread alone, not ${counts()}`, () => counts().join() === "1,0");
    await bob.say(id, "Outside of the thread");
    await until(() => `one unread in both, not ${counts()}`, () => counts().join() === "1,1");
    await alice.client.sendReadReceipt(await alice.event(id, first));
    await until(() => `the thread is read, not ${counts()}`, () => counts().join() === "0,1");

    const last = await send(alice, id, text("Which soup?"), root);
    await until("bob sees the question", () => bob.client.getRoom(id).getThread(root)?.length === 2);
    await open(bob, id, other);
    await send(bob, id, text("An aside"), other);
    await until("two threads", () => alice.client.getRoom(id).getThreads().length === 2);

    const tablet = await alice.person.device();
    await tablet.isIn(id, { encrypted: false });
    const there = tablet.client.getRoom(id);
    await there.createThreadsTimelineSets();
    await there.fetchRoomThreads();
    const [all, own] = there.threadsTimelineSets;
    const roots = (set) => set.getLiveTimeline().getEvents().map((each) => each.getId());
    assert.deepEqual(roots(all).sort(), [root, other].sort());
    assert.deepEqual(roots(own), [root, other].filter((each) => roots(own).includes(each)));
    const known = there.getThread(root);
    assert.equal(known.length, 2);
    assert.equal(known.hasCurrentUserParticipated, true);
    assert.equal(known.replyToEvent.getId(), last);
    await until("the whole thread is fetched", () => known.initialEventsFetched);
    assert.deepEqual(known.events.map((each) => each.getId()), [root, first, last]);
    tablet.stop();
});

test("edits: the newest counts, everywhere, and those who come later get it with the event", async () => {
    const id = await room();
    const original = await alice.say(id, "Meet at fuor");
    const edit = (body) => ({
        ...text(`* ${body}`),
        "m.new_content": text(body),
        "m.relates_to": { rel_type: RelationType.Replace, event_id: original },
    });
    await bob.event(id, original);
    await send(alice, id, edit("Meet at four"));
    const newest = await send(alice, id, edit("Meet at five"));
    const shown = await bob.event(id, original);
    await until(() => `bob reads ${shown.getContent().body}`, () => shown.getContent().body === "Meet at five");
    assert.equal(shown.getOriginalContent().body, "Meet at fuor");
    await send(bob, id, edit("Meet never")); // another's edit of it is none
    const tablet = await bob.person.device();
    await tablet.isIn(id, { encrypted: false });
    const late = await tablet.client.fetchRoomEvent(id, original);
    assert.equal(late.unsigned["m.relations"]["m.replace"].event_id, newest);
    const { chunk } = await tablet.client.fetchRelations(id, original, RelationType.Replace, EventType.RoomMessage);
    assert.equal(chunk.length, 3);
    const { events } = await tablet.client.relations(id, original, RelationType.Replace, EventType.RoomMessage);
    assert.equal(events.length, 2);
    tablet.stop();

    await alice.client.redactEvent(id, newest);
    await until(() => `bob reads ${shown.getContent().body}`, () => shown.getContent().body === "Meet at four");
});

test("reactions are counted, not twice, and taken back", async () => {
    const id = await room();
    const target = await alice.say(id, "I have baked a cake");
    await bob.event(id, target);
    const react = (who, key) => who.client.sendEvent(id, EventType.Reaction, {
        "m.relates_to": { rel_type: RelationType.Annotation, event_id: target, key },
    });
    const { event_id: cake } = await react(bob, "🍰");
    await react(alice, "🍰");
    await react(bob, "👍");
    const seen = () => alice.client.getRoom(id).relations
        .getChildEventsForEvent(target, RelationType.Annotation, EventType.Reaction)
        ?.getSortedAnnotationsByKey()?.map(([key, from]) => `${key}${from.size}`).sort().join(" ");
    await until(() => `alice sees all, not ${seen()}`, () => seen() === "🍰2 👍1");
    await assert.rejects(react(bob, "🍰"), { errcode: "M_DUPLICATE_ANNOTATION" });
    for (const event of bob.client.getRoom(id).getPendingEvents())
        if (event.status === EventStatus.NOT_SENT) bob.client.cancelPendingEvent(event);
    await bob.client.redactEvent(id, cake);
    await until(() => `one is gone, not ${seen()}`, () => seen() === "🍰1 👍1");
    const { event_id: again } = await react(bob, "🍰");
    assert.ok(again);
    await until(() => `and there again, not ${seen()}`, () => seen() === "🍰2 👍1");
});

test("push rules decide what is unread and what is highlighted, and all devices hear of them", async () => {
    const id = await room();
    const here = alice.client.getRoom(id);
    const counts = () => [Total, Highlight].map((type) => here.getUnreadNotificationCount(type) ?? 0).join();
    const tablet = await alice.person.device();
    const onTablet = () => tablet.client.pushRules?.global?.content?.find((each) => each.rule_id === "cake");

    await bob.say(id, "hello");
    await until(() => `one unread, not ${counts()}`, () => counts() === "1,0");
    await send(bob, id, text("alice, look", { "m.mentions": { user_ids: [alice.userId] } }));
    await until(() => `one highlighted, not ${counts()}`, () => counts() === "2,1");

    const actions = [PushRuleActionName.Notify, { set_tweak: "highlight", value: true }];
    await alice.client.addPushRule("global", PushRuleKind.ContentSpecific, "cake", { pattern: "cake", actions });
    await until("the other device has the rule", onTablet);
    await bob.say(id, "There is CAKE.");
    await until(() => `two highlighted, not ${counts()}`, () => counts() === "3,2");
    await alice.client.setPushRuleEnabled("global", PushRuleKind.ContentSpecific, "cake", false);
    await until("it is off there, too", () => onTablet().enabled === false);
    await bob.say(id, "More cake.");
    await until(() => `no further highlight, not ${counts()}`, () => counts() === "4,2");
    await alice.client.setPushRuleEnabled("global", PushRuleKind.ContentSpecific, "cake", true);
    await alice.client.setPushRuleActions("global", PushRuleKind.ContentSpecific, "cake", [PushRuleActionName.Notify]);
    await until("other actions there, too", () => onTablet().actions.length === 1);
    await alice.client.deletePushRule("global", PushRuleKind.ContentSpecific, "cake");
    await until("the rule is gone there", () => !onTablet());

    const last = await bob.say(id, "read so far");
    await until(() => `five unread, not ${counts()}`, () => counts() === "5,2");
    await alice.client.sendReadReceipt(await alice.event(id, last));
    await until(() => `all is read, not ${counts()}`, () => counts() === "0,0");

    await mute(alice, id);
    await until("the room is muted there, too", () =>
        tablet.client.pushRules.global.override.some((each) => each.rule_id === id));
    await alice.event(id, await bob.say(id, "into the void"));
    assert.equal(counts(), "0,0");
    await alice.client.deletePushRule("global", PushRuleKind.Override, id);
    await alice.event(id, await bob.say(id, "heard"));
    // What came while the room was muted is counted by the rules of today, as nothing of it was read.
    await until(() => `heard, not ${counts()}`, () => here.getUnreadNotificationCount(Total) >= 1);
    tablet.stop();
});

test("sticky events reach those who come later, and those with a gap in what they have seen", async () => {
    const id = await room({ preset: "public_chat" });
    const content = { msc4354_sticky_key: "phone", text: "in the call" };
    const { event_id: sticky } = await bob.client._unstable_sendStickyEvent(id, 600_000, null, "org.example.call", content);
    const known = (who) => who.client.getRoom(id)?._unstable_getKeyedStickyEvent(bob.userId, "org.example.call", "phone");
    assert.equal((await until("alice knows", () => known(alice))).getId(), sticky);
    for (let number = 0; number < 60; number++) await bob.say(id, `more than a sync has: ${number}`);
    const carol = await (await newPerson("carol")).device();
    await carol.join(id, { encrypted: false });
    assert.equal((await until("carol knows", () => known(carol))).getId(), sticky);
    const list = { ranges: [[0, 9]], timeline_limit: 1, required_state: [] };
    const sliding = (client) => new SlidingSync(client.baseUrl, new Map([["all", list]]), {}, client, 2000);
    const tablet = await alice.person.device({ sliding });
    assert.equal((await until("the tablet knows", () => known(tablet))).getId(), sticky);
    for (const device of [carol, tablet]) device.stop();
});

test("what others say of themselves in their profiles comes by sync", async () => {
    const status = "org.matrix.msc4426.status";
    const start = { unstableMSC4429SyncUserProfileFields: [status] };
    await bob.client.setExtendedProfileProperty(status, { text: "at lunch" });
    await room();
    const tablet = await alice.person.device({ start });
    const shown = async () => (await tablet.client.store.getUserProfile(bob.userId))?.[status]?.text;
    await until("bob is at lunch", async () => (await shown()) === "at lunch");
    await bob.client.setExtendedProfileProperty(status, { text: "back" });
    await until("bob is back", async () => (await shown()) === "back");
    tablet.stop();
});

test("past notifications are listed, page by page", async () => {
    const id = await room();
    const sent = [];
    for (let number = 0; number < 5; number++) sent.unshift(await bob.say(id, `note ${number}`));
    await alice.event(id, sent[0]);
    const found = [];
    let from;
    do {
        const query = { limit: "2", ...(from && { from }) };
        const page = await alice.client.http.authedRequest("GET", "/notifications", query);
        assert.ok(page.notifications.length <= 2);
        found.push(...page.notifications.filter((each) => each.room_id === id));
        from = page.next_token;
    } while (from && found.length < 5);
    assert.deepEqual(found.slice(0, 5).map((each) => each.event.event_id), sent);
    assert.ok(found.every((each) => !each.read && each.actions.includes("notify")));
});

test("search finds words in rooms that one is in, with what stands around them, page by page", async () => {
    const id = await room({ name: "Recipes" });
    const [before, hit, after] = [await bob.say(id, "listen"), await bob.say(id, "saffron buns"), await bob.say(id, "ok")];
    for (let number = 0; number < 12; number++) await alice.say(id, `saffron recipe ${number}`);
    const elsewhere = await bob.newPlainRoom([]);
    await bob.say(elsewhere, "saffron secrets");

    const found = await until("all are indexed", async () => {
        const each = await alice.client.searchRoomEvents({ term: "saffron", filter: { limit: 5 } });
        return each.count === 13 && each;
    });
    while (found.next_batch) await alice.client.backPaginateRoomEventsSearch(found);
    assert.equal(found.results.length, 13);
    assert.equal(new Set(found.results.map((each) => each.context.getEvent().getId())).size, 13);
    assert.ok(found.highlights.includes("saffron"));
    const result = found.results.find((each) => each.context.getEvent().getId() === hit);
    const around = result.context.getTimeline().map((each) => each.getId());
    assert.equal(around[around.indexOf(hit) - 1], before);
    assert.equal(around[around.indexOf(hit) + 1], after);
    const named = await alice.client.search({
        body: { search_categories: { room_events: { search_term: "Recipes", keys: ["content.name"] } } },
    });
    assert.equal(named.search_categories.room_events.results[0].result.room_id, id);
});
