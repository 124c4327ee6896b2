/** Two people with two devices each on different servers, of which now the one and now the other is away. */
import assert from "node:assert/strict";
import test from "node:test";

import { ask } from "../house.mjs";
import { compareEmoji, heard, twoDevices, until } from "../people.mjs";

/** What is done while a server is killed. Who speaks when it is back shows the other server that it is. */
const during = async (server, room, speaker, meanwhile) => {
    await ask("kill", { server });
    try {
        return await meanwhile();
    } finally {
        await ask("start", { server });
        await speaker.client.sendTyping(room, true, 1000);
    }
};

test("encryption between servers", async (t) => {
    const [[alice, laptop], [bob, tablet]] = await Promise.all([twoDevices("alice", "host"), twoDevices("bob", "guest")]);
    const all = [alice, laptop, bob, tablet];
    const room = await alice.newRoom([bob], { encryption: { rotation_period_msgs: 2 } });
    for (const each of all) await each.isIn(room);

    await t.test("every device reads every other", async () => {
        for (const each of all) await heard(room, each, all, `from ${each.name}`);
    });

    await t.test("users compare emoji over both servers", async () => {
        await compareEmoji(await alice.crypto.requestVerificationDM(bob.userId, room), bob);
        for (const [mine, theirs] of [[laptop, bob], [tablet, alice]]) {
            await until(`${mine.name} has heard of it`, async () =>
                (await mine.crypto.getUserVerificationStatus(theirs.userId)).isCrossSigningVerified(),
            );
        }
    });

    const sides = { guest: [[alice, laptop], [bob, tablet]], host: [[bob, tablet], [alice, laptop]] };
    for (const [away, [speakers, listeners]] of Object.entries(sides)) {
        await t.test(`what is said while the ${away} is away is read when it is back`, async () => {
            const said = await during(away, room, listeners[0], async () => {
                const messages = [];
                for (let number = 0; number < 5; number++) {
                    const body = `from one side: ${number}`;
                    messages.push([await heard(room, speakers[number % 2], speakers, body), body]);
                }
                return messages;
            });
            for (const each of listeners) for (const [id, body] of said) await each.reads(room, id, body);
            await heard(room, listeners[0], all, "we are back");
        });
    }

    for (const [away, [[mine], [other]]] of Object.entries(sides)) {
        await t.test(`a device that comes while the ${away} is away is known there afterwards`, async () => {
            const fresh = await during(away, room, other, () => mine.person.trustedDevice());
            await fresh.isIn(room);
            await other.sees(mine.userId, ...mine.person.devices.map((each) => each.id));
            all.push(fresh);
            await heard(room, other, all, "welcome");
            await heard(room, fresh, all, "thank you");
        });
    }
});
