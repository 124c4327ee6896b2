/**
 * What the Python side of a test does for a scenario: accounts, and the servers' starts and ends.
 *
 * A request is a line of JSON on the standard output, marked; its answer is a line of JSON on the standard input.
 */
import { createInterface } from "node:readline";

const MARK = "@@house ";

/** What the Python side told this scenario at its start: `servers` is base URLs by name, the rest is the test's own. */
export const told = JSON.parse(process.env.SCENARIO ?? "{}");

const waiting = [];
const answers = createInterface({ input: process.stdin });
answers.on("line", (line) => {
    const { resolve, reject } = waiting.shift();
    const answer = JSON.parse(line);
    process.stdin.unref();
    if ("error" in answer) reject(new Error(answer.error));
    else resolve(answer.result);
});
process.stdin.unref();

/** Have the Python side do something, and wait for what comes of it. */
export function ask(what, parameters = {}) {
    return new Promise((resolve, reject) => {
        waiting.push({ resolve, reject });
        process.stdin.ref(); // while something is asked, the process waits
        process.stdout.write(`${MARK}${JSON.stringify({ do: what, ...parameters })}\n`);
    });
}
