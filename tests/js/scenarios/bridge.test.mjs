/** A bridge made with matrix-bot-sdk: portals and ghosts on demand, what it is told, and the network that it leads to. */
import assert from "node:assert/strict";
import test from "node:test";

import { Appservice, LogLevel, LogService, MatrixClient, MemoryStorageProvider } from "matrix-bot-sdk";

import { ask, told } from "../house.mjs";

const DOMAIN = "tiny.test";
const server = told.servers.tiny;
LogService.setLevel(LogLevel.WARN);

/** Wait until a condition gives something. */
async function until(what, condition) {
    for (const end = Date.now() + 30_000; ;) {
        const found = await condition();
        if (found) return found;
        assert.ok(Date.now() < end, `not in 30 s: ${what}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
    }
}

test("a bridge", async (t) => {
    const registration = {
        id: "bot-sdk", url: `http://127.0.0.1:${told.port}`, as_token: "as-token-of-bot-sdk", hs_token: "hs-token",
        sender_localpart: "sdkbot", protocols: ["smoke"], rate_limited: false,
        "de.sorunome.msc2409.push_ephemeral": true,
        namespaces: {
            users: [{ exclusive: true, regex: `@sdk_.*:${DOMAIN}` }],
            aliases: [{ exclusive: true, regex: `#sdk_.*:${DOMAIN}` }],
            rooms: [],
        },
    };
    await ask("add_service", { registration });
    const storage = new MemoryStorageProvider();
    const bridge = new Appservice({
        port: told.port, bindAddress: "127.0.0.1", homeserverName: DOMAIN, homeserverUrl: server, storage, registration,
    });
    const events = [], edus = [];
    bridge.on("room.event", (room, event) => events.push({ room, ...event }));
    bridge.on("ephemeral.event", (edu) => edus.push(edu));
    bridge.on("query.user", (user, create) => create(user.includes("nobody") ? false : { display_name: `${user} (sdk)` }));
    bridge.on("query.room", (alias, create) => create({ preset: "public_chat", name: alias }));
    bridge.on("thirdparty.protocol", (protocol, answer) => answer({
        user_fields: ["name"], location_fields: ["channel"], icon: "", field_types: {},
        instances: [{ desc: "Smoke signals", fields: {}, network_id: "hill" }],
    }));
    bridge.on("thirdparty.location.remote", (protocol, fields, answer) => answer(
        [{ alias: `#sdk_${fields.channel}:${DOMAIN}`, protocol, fields }],
    ));
    await bridge.begin();
    t.after(() => bridge.stop());

    const { access_token, user_id } = await ask("register", { name: "alice", server: "tiny" });
    const alice = new MatrixClient(server, access_token);
    const ghost = bridge.getIntentForSuffix("ghost");

    const room = await alice.joinRoom(`#sdk_portal:${DOMAIN}`);
    await ghost.joinRoom(room);
    await ghost.sendText(room, "from the other side");
    for (let number = 0; number < 30; number++) await alice.sendText(room, `${number}`);
    const said = () => events.filter(({ room: where, sender, type }) => where === room && sender === user_id && type === "m.room.message");
    await until("what alice says", () => said().length >= 30);
    assert.deepEqual(said().map(({ content }) => content.body), [...Array(30).keys()].map(String));
    assert.ok(events.some(({ sender, content }) => sender === ghost.userId && content.body === "from the other side"));

    await alice.setTyping(room, true);
    await alice.sendReadReceipt(room, said().at(-1).event_id);
    await until("that alice types", () => edus.find(({ type, content }) => type === "m.typing" && content.user_ids.includes(user_id)));
    await until("that alice has read", () => edus.find(({ type }) => type === "m.receipt"));

    const profile = await alice.getUserProfile(`@sdk_new:${DOMAIN}`);
    assert.equal(profile.displayname, `@sdk_new:${DOMAIN} (sdk)`);
    await assert.rejects(alice.getUserProfile(`@sdk_nobody:${DOMAIN}`), { errcode: "M_NOT_FOUND" });

    const { smoke } = await alice.doRequest("GET", "/_matrix/client/v3/thirdparty/protocols");
    assert.equal(smoke.instances[0].instance_id, "bot-sdk|hill");
    const places = await alice.doRequest("GET", "/_matrix/client/v3/thirdparty/location/smoke", { channel: "peak" });
    assert.deepEqual(places, [{ alias: `#sdk_peak:${DOMAIN}`, protocol: "smoke", fields: { channel: "peak" } }]);
    await bridge.setRoomDirectoryVisibility("hill", room, "public");
    const listed = await alice.doRequest("POST", "/_matrix/client/v3/publicRooms", null, { third_party_instance_id: "bot-sdk|hill" });
    assert.deepEqual(listed.chunk.map(({ room_id }) => room_id), [room]);
});
