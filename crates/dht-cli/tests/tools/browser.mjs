// Drives other people's programs against a relay, and prints what they show.
//
//   node browser.mjs page RELAY KEY       the page of the relay in Chromium: typed, and without a script
//   node browser.mjs chromium RELAY NAME  a web server at NAME, found by Chromium over DNS over HTTPS
//   node browser.mjs curl RELAY NAME      the same by curl
//   node browser.mjs https RELAY          the relay by HTTPS, until standard input ends: URL and certificate
//
// RELAY is its http:// URL. For HTTPS a proxy with a certificate of its own stands in front of it here.
// Nothing leaves this machine. Anything that hangs is killed.

import { spawn, execFileSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";

const PATIENCE_MS = 120_000;
const GREETING = "hello from the owner of the key";

const directory = mkdtempSync(join(tmpdir(), "dht-tools-"));
const children = [];

async function end(status) {
  for (const child of children) {
    const gone = new Promise((done) => child.once("exit", done));
    if (child.exitCode === null && child.kill("SIGKILL")) await gone;
  }
  try {
    // Helpers of a browser outlive it for a moment, and write what they have.
    rmSync(directory, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
  } catch (error) {
    console.error(`${directory} stays: ${error.message}`);
  }
  process.exit(status);
}

setTimeout(() => {
  console.error("no answer in time");
  end(1);
}, PATIENCE_MS);

const listen = (server) => new Promise((done) => {
  server.listen(0, "127.0.0.1", () => done(server.address().port));
});

// A proxy with a certificate, in front of the relay.
async function proxy(relay) {
  const key = join(directory, "key.pem");
  const cert = join(directory, "cert.pem");
  execFileSync("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
    "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=127.0.0.1",
    "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"],
  { stdio: "ignore" });
  const pem = readFileSync(cert);
  const asked = [];
  const server = https.createServer({ key: readFileSync(key), cert: pem }, (request, reply) => {
    asked.push(`${request.method} ${request.url.split("?")[0]}`);
    const { method, headers } = request;
    const onward = http.request(new URL(request.url, relay), { method, headers }, (answer) => {
      reply.writeHead(answer.statusCode, answer.headers);
      answer.pipe(reply);
    });
    onward.on("error", () => reply.destroy());
    request.pipe(onward);
  });
  const spki = new X509Certificate(pem).publicKey.export({ type: "spki", format: "der" });
  const pin = createHash("sha256").update(spki).digest("base64");
  return { url: `https://127.0.0.1:${await listen(server)}`, cert, pin, asked };
}

const web = () => listen(http.createServer((_, reply) => reply.end(GREETING)));

// Chromium, driven over a pipe.
async function chromium(flags, localState) {
  const profile = join(directory, "profile");
  execFileSync("mkdir", ["-p", profile]);
  writeFileSync(join(profile, "Local State"), JSON.stringify(localState));
  const child = spawn("chromium", ["--headless=new", "--no-sandbox", "--disable-gpu",
    "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-features=HttpsUpgrades",
    `--user-data-dir=${profile}`, "--remote-debugging-pipe", ...flags, "about:blank"],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  children.push(child);
  const waiting = new Map();
  let last = 0;
  let rest = "";
  child.stdio[4].on("data", (data) => {
    const parts = (rest + data).split("\0");
    rest = parts.pop();
    for (const part of parts) {
      const { id, result, error } = JSON.parse(part);
      const done = waiting.get(id);
      waiting.delete(id);
      if (done) done(error ? { failed: error.message } : result);
    }
  });
  const send = (method, params, sessionId) => new Promise((done) => {
    last += 1;
    waiting.set(last, done);
    child.stdio[3].write(`${JSON.stringify({ id: last, method, params, sessionId })}\0`);
  });
  const { targetInfos } = await send("Target.getTargets", {});
  const { targetId } = targetInfos.find((target) => target.type === "page");
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const evaluate = async (expression) => {
    const { result } = await send("Runtime.evaluate", { expression, awaitPromise: true }, sessionId);
    return result?.value;
  };
  const until = async (expression) => {
    for (;;) {
      const value = await evaluate(expression);
      if (value) return value;
      await new Promise((done) => setTimeout(done, 50));
    }
  };
  return { send: (method, params) => send(method, params, sessionId), until, evaluate };
}

async function page(relay, key) {
  const tab = await chromium([], {});
  await tab.send("Page.navigate", { url: relay });
  await tab.until(`document.readyState === "complete" && !!document.getElementById("name")`);
  // As a person does it: the script answers in place.
  await tab.evaluate(`window.untouched = true; document.getElementById("name").value = "${key}";
    document.querySelector("button").click()`);
  const typed = await tab.until(`document.querySelector("#result table")?.innerText
    && document.getElementById("result").innerText`);
  const inPlace = await tab.evaluate("window.untouched === true");
  await tab.evaluate(`document.getElementById("name").value = "nonsense";
    document.querySelector("button").click()`);
  const failed = await tab.until(`document.querySelector("#result .error")?.innerText`);
  // Without a script, the form is a link like any other.
  await tab.send("Emulation.setScriptExecutionDisabled", { value: true });
  await tab.send("Page.navigate", { url: `${relay}?name=${key}` });
  const plain = await tab.until(`document.readyState === "complete"
    && location.search.includes("${key}") && document.querySelector("#result table")?.innerText`);
  console.log(JSON.stringify({ typed, inPlace, failed, plain }));
}

async function overHttps(relay, name, client) {
  const [dns, port] = [await proxy(relay), await web()];
  const url = `http://${name}:${port}/`;
  const shown = await client(dns, url);
  console.log(JSON.stringify({ shown, asked: [...new Set(dns.asked)] }));
}

async function inChromium(dns, url) {
  const tab = await chromium([`--ignore-certificate-errors-spki-list=${dns.pin}`],
    { dns_over_https: { mode: "secure", templates: `${dns.url}/dns-query` } });
  // The resolver's settings arrive a moment after the first tab.
  for (;;) {
    await tab.send("Page.navigate", { url });
    const shown = await tab.until(`document.readyState === "complete" && document.body?.innerText`);
    if (shown.includes(GREETING)) return shown;
    await new Promise((done) => setTimeout(done, 200));
  }
}

const inCurl = (dns, url) => new Promise((done) => {
  const args = ["--silent", "--show-error", "--max-time", "60", "--doh-url",
    `${dns.url}/dns-query`, "--doh-insecure", url];
  const child = spawn("curl", args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  let shown = "";
  child.stdout.on("data", (data) => { shown += data; });
  child.on("close", () => done(shown));
});

async function byHttps(relay) {
  const { url, cert } = await proxy(relay);
  console.log(JSON.stringify({ url, cert }));
  await new Promise((done) => process.stdin.on("end", done).resume());
}

const [what, relay, name] = process.argv.slice(2);
const verbs = {
  page: () => page(relay, name),
  chromium: () => overHttps(relay, name, inChromium),
  curl: () => overHttps(relay, name, inCurl),
  https: () => byHttps(relay),
};
await verbs[what]();
await end(0);
