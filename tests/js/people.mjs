/** People with matrix-js-sdk in their hands: each device is a client of its own with the Rust crypto. */
import assert from "node:assert/strict";
import { after } from "node:test";

import {
    ClientEvent, ConditionKind, createClient, EventTimeline, HttpApiEvent, PendingEventOrdering, PushRuleKind, SyncState,
} from "matrix-js-sdk";
import { CryptoEvent, VerificationPhase, VerifierEvent } from "matrix-js-sdk/lib/crypto-api/index.js";

import { RustBackupManager } from "matrix-js-sdk/lib/rust-crypto/backup.js";

import { ask, told } from "./house.mjs";

const PATIENCE = 30_000;

// What matrix-js-sdk logs goes to the console. SCENARIO_LOG=1 shows it.
if (!process.env.SCENARIO_LOG) for (const level of ["trace", "debug", "log", "info", "warn", "error"]) console[level] = () => {};

// Otherwise keys are uploaded up to ten seconds later.
RustBackupManager.maxBackupLoopStartDelayMillis = 0;

/** Wait until a condition gives something, and return that. */
export async function until(what, condition, patience = PATIENCE) {
    const deadline = Date.now() + patience;
    for (;;) {
        const found = await condition();
        if (found) return found;
        if (Date.now() > deadline) assert.fail(`not in ${patience / 1000} s: ${typeof what === "string" ? what : what()}`);
        await new Promise((resolve) => setTimeout(resolve, 10));
    }
}

/** A person: an account, and the keys of its secret storage, as if they were written down. */
export class Person {
    constructor(name, account) {
        this.name = name;
        this.baseUrl = account.base_url;
        this.userId = account.user_id;
        this.password = account.password;
        this.storageKeys = new Map();
        this.devices = [];
        this.unused = account; // the session that came with the account
    }

    /**
     * Another device, logged in and synced. `store` names a crypto store that outlives the client; `sliding` makes of
     * the client what it syncs by instead of /sync; `start` are more options of its start.
     */
    async device({ store, sliding, start } = {}) {
        const session = this.unused ?? (await this.#login());
        this.unused = null;
        const device = new Device(this, session, store, sliding, start);
        this.devices.push(device);
        return device.start();
    }

    /** Another device that has unlocked secret storage: it is cross-signed and knows the backup's key. */
    async trustedDevice(options) {
        const device = await this.device(options);
        // Private keys are taken only once the public ones are there.
        assert.ok(await device.crypto.userHasCrossSigningKeys(this.userId, true));
        await device.crypto.bootstrapCrossSigning({});
        assert.ok(await device.crypto.isCrossSigningReady());
        await device.crypto.loadSessionBackupPrivateKeyFromSecretStorage();
        assert.ok(await device.crypto.checkKeyBackupAndEnable());
        return device;
    }

    #login() {
        const identifier = { type: "m.id.user", user: this.userId };
        return createClient({ baseUrl: this.baseUrl }).loginRequest({
            ...{ type: "m.login.password", identifier, password: this.password },
        });
    }
}

/** One device. `client` is matrix-js-sdk's, `crypto` its crypto. */
export class Device {
    constructor(person, session, store, sliding, options = {}) {
        this.person = person;
        this.session = session;
        this.id = session.device_id;
        this.name = `${person.name}'s ${this.id}`;
        this.store = store;
        this.sliding = sliding;
        this.options = options;
    }

    get userId() {
        return this.person.userId;
    }

    get crypto() {
        return this.client.getCrypto();
    }

    /** Start with nothing but the session, and the crypto store if it has a name; wait for the first sync. */
    async start() {
        const { person, session, store } = this;
        this.verifications = [];
        this.toDevice = [];
        this.loggedOut = false;
        this.client = createClient({
            baseUrl: person.baseUrl,
            userId: person.userId,
            deviceId: session.device_id,
            accessToken: session.access_token,
            cryptoCallbacks: {
                getSecretStorageKey: async ({ keys }) => {
                    const id = Object.keys(keys).find((each) => person.storageKeys.has(each));
                    return id ? [id, person.storageKeys.get(id)] : null;
                },
                cacheSecretStorageKey: (id, _info, key) => person.storageKeys.set(id, key),
            },
        });
        this.client.on(CryptoEvent.VerificationRequestReceived, (request) => this.verifications.push(request));
        this.client.on(ClientEvent.ReceivedToDeviceMessage, (received) => this.toDevice.push(received));
        this.client.on(HttpApiEvent.SessionLoggedOut, () => (this.loggedOut = true));
        this.client.on(ClientEvent.Sync, (state) => {
            // Left alone it tries again only every five to ten seconds.
            if (state === SyncState.Reconnecting || state === SyncState.Error) this.#hurry();
        });
        await this.client.initRustCrypto(
            store ? { useIndexedDB: true, cryptoDatabasePrefix: store } : { useIndexedDB: false },
        );
        await this.client.startClient({
            ...{ initialSyncLimit: 50, lazyLoadMembers: true, pendingEventOrdering: PendingEventOrdering.Detached },
            threadSupport: true,
            slidingSync: this.sliding?.(this.client),
            ...this.options,
        });
        await until(`${this.name}'s first sync`, () => this.client.getSyncState() === SyncState.Syncing);
        return this;
    }

    #hurry() {
        clearTimeout(this.hurrying);
        this.hurrying = setTimeout(() => {
            if (this.client.clientRunning && this.client.getSyncState() !== SyncState.Syncing) {
                this.client.retryImmediately();
                this.#hurry();
            }
        }, 200);
    }

    stop() {
        clearTimeout(this.hurrying);
        this.client.stopClient();
    }

    // Keys

    /** Upload this user's cross-signing keys, secret storage and key backup, made by this device. */
    async bootstrap() {
        await this.crypto.bootstrapCrossSigning({
            authUploadDeviceSigningKeys: this.authenticated(() => assert.fail("the first keys need no password")),
        });
        await this.crypto.bootstrapSecretStorage({
            createSecretStorageKey: () => this.crypto.createRecoveryKeyFromPassphrase(),
            setupNewSecretStorage: true,
            setupNewKeyBackup: true,
        });
        assert.ok(await this.crypto.isCrossSigningReady());
        assert.ok(await this.crypto.isSecretStorageReady());
        return this;
    }

    /** Makes a request with the password if the server asks for it; `asked` is called then. */
    authenticated(asked = () => {}) {
        return async (request) => {
            try {
                return await request(null);
            } catch (error) {
                if (error.httpStatus !== 401) throw error;
                asked();
                const { session } = error.data;
                const identifier = { type: "m.id.user", user: this.userId };
                return request({ type: "m.login.password", identifier, password: this.person.password, session });
            }
        };
    }

    /** Wait until that many keys of messages are in the backup; what the server says of it. */
    async backedUp(count) {
        let info; // asked of the server: what the crypto knows of it may be old
        await until(
            () => `${this.name} backs up ${count} keys, not ${info.count}`,
            async () => {
                info = await this.client.http.authedRequest("GET", "/room_keys/version");
                return info.count === count;
            },
        );
        return info;
    }

    /** Wait until this device sees those devices of a user, and no others. */
    sees(userId, ...ids) {
        let found;
        return until(
            () => `${this.name} sees ${ids} of ${userId}, not ${found}`,
            async () => {
                found = [...((await this.crypto.getUserDeviceInfo([userId], true)).get(userId)?.keys() ?? [])].sort();
                return found.join() === ids.sort().join();
            },
        );
    }

    // Rooms

    /** A new encrypted room, with these other devices' users in it. */
    newRoom(others = [], { encryption = {}, state = [], ...options } = {}) {
        const algorithm = { algorithm: "m.megolm.v1.aes-sha2", ...encryption };
        const initial_state = [{ type: "m.room.encryption", state_key: "", content: algorithm }, ...state];
        return this.#newRoom(others, { initial_state, ...options }, {});
    }

    /** A new room without encryption, with these other devices' users in it. */
    newPlainRoom(others = [], options = {}) {
        return this.#newRoom(others, options, { encrypted: false });
    }

    async #newRoom(others, options, kind) {
        const invite = others.map((each) => each.userId);
        const { room_id: room } = await this.client.createRoom({ invite, ...options });
        await this.isIn(room, kind);
        for (const each of others) {
            await until("the invitation", () => each.client.getRoom(room)?.getMyMembership() === "invite");
            await each.join(room, kind);
        }
        for (const each of others) await this.member(room, each, "join");
        return room;
    }

    async join(room, { encrypted = true, ...options } = {}) {
        await this.client.joinRoom(room, options);
        await this.isIn(room, { encrypted });
    }

    /** Wait until this device knows that its user is in the room, and that it is encrypted. */
    async isIn(room, { encrypted = true } = {}) {
        await until(`${this.name} is in ${room}`, () => this.client.getRoom(room)?.getMyMembership() === "join");
        if (encrypted)
            await until(`${this.name} knows that ${room} is encrypted`, () => this.crypto.isEncryptionEnabledInRoom(room));
    }

    /** Wait until this device has seen a membership of another device's user. */
    member(room, other, membership) {
        return until(
            `${this.name} sees the ${membership} of ${other.userId}`,
            () => this.client.getRoom(room)?.getMember(other.userId)?.membership === membership,
        );
    }

    /** Send a message; its event ID. */
    async say(room, body) {
        return (await this.client.sendMessage(room, { msgtype: "m.text", body })).event_id;
    }

    /** Send a message, as often as it takes with a server that is killed now and then; its event ID. */
    async sayStubbornly(room, body) {
        const { client } = this;
        const isIt = (event) => event.getSender() === this.userId && event.getContent().body === body;
        const unsent = () => client.getRoom(room).getPendingEvents().find(isIt);
        const echo = () => client.getRoom(room).getLiveTimeline().getEvents().find(isIt);
        let sending = client.sendMessage(room, { msgtype: "m.text", body });
        for (;;) {
            try {
                return (await sending).event_id;
            } catch (error) {
                if (error.name !== "ConnectionError") throw error;
                await new Promise((resolve) => setTimeout(resolve, 50));
                const event = unsent();
                // The server had it before it was killed, and its echo has come by sync.
                if (!event) return (await until("the echo of a sent message", echo)).getId();
                sending = client.resendEvent(event, client.getRoom(room));
            }
        }
    }

    /** Wait until an event is in the timeline of the room. */
    event(room, id) {
        return until(`${this.name} gets ${id}`, () => this.client.getRoom(room)?.findEventById(id));
    }

    /** The encrypted messages of a room in order, with what sync left out, back to the room's beginning. */
    async history(room) {
        const { client } = this;
        const known = [client.getRoom(room).getLiveTimeline()];
        for (;;) {
            const before = known[0].getNeighbouringTimeline(EventTimeline.BACKWARDS);
            if (before) known.unshift(before);
            else if (!(await client.paginateEventTimeline(known[0], { backwards: true, limit: 100 }))) break;
        }
        return known.flatMap((each) => each.getEvents()).filter((event) => event.isEncrypted());
    }

    /** Wait until a message is decrypted, and it must say that; the event. */
    async reads(room, id, body) {
        const event = await this.event(room, id);
        await until(
            () => `${this.name} reads ${JSON.stringify(event.getContent())} instead of ${body}`,
            () => event.isEncrypted() && !event.isDecryptionFailure() && event.getContent().body === body,
        );
        return event;
    }

    /** Wait until it is clear that a message cannot be decrypted; why. */
    async cannotRead(room, id) {
        const event = await this.event(room, id);
        return until(`${this.name} fails to decrypt ${id}`, () => event.decryptionFailureReason);
    }
}

const everybody = [];
after(() => everybody.forEach((person) => person.devices.forEach((device) => device.stop())));

/** A new account whose name starts so, on the server of that name, or else on the only one. */
export async function newPerson(name, server = Object.keys(told.servers)[0]) {
    const person = new Person(name, await ask("register", { name, server }));
    everybody.push(person);
    return person;
}

/** The first device of a new person, which has set up cross-signing, secret storage and key backup. */
export async function newcomer(name, server) {
    const device = await (await newPerson(name, server)).device();
    return device.bootstrap();
}

/** Two devices of a new person, both trusted. */
export async function twoDevices(name, server) {
    const first = await newcomer(name, server);
    return [first, await first.person.trustedDevice()];
}

/** A message of one is read by all these devices. */
export async function heard(room, speaker, listeners, body) {
    const id = await speaker.say(room, body);
    await Promise.all(listeners.map((each) => each.reads(room, id, body)));
    return id;
}

/** Of a decrypted or encrypted event: the megolm session. */
export const sessionOf = (event) => event.getWireContent().session_id;

/** The other device accepts the request, both compare emoji and are done. */
export async function compareEmoji(request, other) {
    const incoming = await until("the request arrives", () =>
        other.verifications.find((each) => each.transactionId === request.transactionId),
    );
    await incoming.accept();
    await until("both are ready", () => request.phase === VerificationPhase.Ready);
    const mine = await request.startVerification("m.sas.v1");
    const theirs = await until("the start arrives", () => incoming.verifier);
    const shown = [mine, theirs].map((each) => new Promise((resolve) => each.once(VerifierEvent.ShowSas, resolve)));
    const done = Promise.all([mine.verify(), theirs.verify()]);
    const [left, right] = await Promise.all(shown);
    assert.equal(left.sas.emoji.length, 7);
    assert.deepEqual(left.sas, right.sas);
    await Promise.all([left.confirm(), right.confirm()]);
    await done;
    for (const each of [request, incoming]) await until("both are done", () => each.phase === VerificationPhase.Done);
}

/** Mute a room as Element does. */
export const mute = ({ client }, room) => client.addPushRule("global", PushRuleKind.Override, room, {
    conditions: [{ kind: ConditionKind.EventMatch, key: "room_id", pattern: room }],
    actions: ["dont_notify"],
});
