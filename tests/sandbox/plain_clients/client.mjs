// A shop with Node's own modules alone: makes a link, pays it, takes the webhook. Says name=value.
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import https from "node:https";

const API = "/public-api/v1/api";
const { BASE, APP_ID, SECRET, CA_FILE, CERT_FILE, KEY_FILE, REFERENCE } = process.env;
const ca = readFileSync(CA_FILE);
const tell = (found) => Object.entries(found).forEach(([name, value]) => console.log(`${name}=${value}`));

const sign = (path, body, secret = SECRET) =>
  createHmac("sha256", secret).update((path + body).replace(/[\\"']/g, "\\$&")).digest("hex");

const fetchText = (url, { method = "GET", body, headers = {} } = {}) =>
  new Promise((done, failed) => {
    const request = https.request(url, { method, headers, ca, agent: false, timeout: 60_000 }, (answer) => {
      const chunks = [];
      answer.on("data", (chunk) => chunks.push(chunk));
      answer.on("end", () => done({ headers: answer.headers, text: Buffer.concat(chunks).toString() }));
    });
    request.on("error", failed);
    request.end(body);
  });

async function ask(method, path, { query = "", body = "", signature = sign(path, body) } = {}) {
  const headers = { "IK-APPID": APP_ID, "IK-SIGN": signature };
  if (body) headers["Content-Type"] = "application/json";
  return JSON.parse((await fetchText(BASE + path + query, { method, headers, body })).text);
}

const fits = (path, value, given) => {
  const wanted = Buffer.from(sign(path, JSON.stringify(value)));
  return wanted.length === given.length && timingSafeEqual(wanted, Buffer.from(given)) ? "accepted" : "refused";
};

const server = https.createServer({ cert: readFileSync(CERT_FILE), key: readFileSync(KEY_FILE) }, (request, answer) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    const event = JSON.parse(Buffer.concat(chunks).toString());
    const path = request.url.split("?")[0];
    const given = request.headers["ik-sign"];
    tell({
      webhook: fits(path, event, given),
      tampered: fits(path, { ...event, status: "FAILURE" }, given),
      event: event.status,
      sender: request.headers["ik-appid"],
    });
    answer.writeHead(200, { Connection: "close" }).end();
    server.close();
  });
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));

const shop = `https://127.0.0.1:${server.address().port}`;
const body = JSON.stringify({
  entityID: APP_ID,
  amount: 12345,
  currency: "ZAR",
  requesterUrl: shop,
  mode: "live",
  description: "Thabo's \"café\" \\ <a&b>",
  externalTransactionID: REFERENCE,
  urls: { callbackUrl: `${shop}/hook`, successPageUrl: `${shop}/ok`, failurePageUrl: `${shop}/no` },
});
const forged = await ask("POST", `${API}/payment`, { body, signature: sign(`${API}/payment`, body, "wrong") });
const link = await ask("POST", `${API}/payment`, { body });
tell({ forged: forged.responseCode, code: link.responseCode, id: link.paylinkID });
const status = `${API}/getStatus/${link.paylinkID}`;
tell({ before: (await ask("GET", status)).status });
tell({ page: (await fetchText(link.paylinkUrl)).text.includes("<form") ? "form" : "none" });
const card = new URLSearchParams({ card: "4242 4242 4242 4242", expiry: "12/34", cvc: "123", action: "pay" }).toString();
const paid = await fetchText(link.paylinkUrl, {
  method: "POST",
  headers: { "Content-Type": "application/x-www-form-urlencoded" },
  body: card,
});
tell({ back: paid.headers.location.replace(shop, ""), after: (await ask("GET", status)).status });
const external = await ask("GET", `${API}/getStatus/external`, { query: `?externalReference=${REFERENCE}` });
const day = (off) => new Date(Date.now() + off * 86_400_000).toISOString().slice(0, 10);
const history = await ask("GET", `${API}/payments/history`, { query: `?startDate=${day(-1)}&endDate=${day(1)}` });
tell({ found: external.paylinkID, listed: history.filter((one) => one.paylinkID === link.paylinkID).length });
