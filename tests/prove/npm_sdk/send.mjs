// Uses the unmodified SDK against the listener given as the only argument; prints what it sent, one request a line.
import { webcrypto } from "node:crypto";
import TelemetryDeck from "@telemetrydeck/sdk";

const sent = [];
const fetchForReal = globalThis.fetch;
globalThis.fetch = (target, options) => {
  sent.push(options.body);
  return fetchForReal(target, options);
};

const deck = new TelemetryDeck({
  appID: "npm-proof",
  clientUser: "somebody@example.com",
  salt: "MySalt",
  target: process.argv[2],
  testMode: true,
  subtleCrypto: webcrypto.subtle,
});

const answers = [await deck.signal("direct", { floatValue: 0.4, object: { foo: "bar" }, text: "grüße 🚀" })];
await deck.queue("queued", { number: 1 });
await deck.queue("queued", { number: 2 });
answers.push(await deck.flush());
console.log(JSON.stringify({ sent, statuses: answers.map((answer) => answer.status) }));
