// A shop for courses: another team's, in another language, after the protocol and the service contract alone.
//
// Settings are environment variables: HOST, PORT (0: any), TLS_CERT and TLS_KEY (files), PUBLIC_URL, GATEWAY_URL,
// GATEWAY_CA (file), IK_APPID, IK_SECRET, DATA_FILE, WEBHOOK_SOURCES, RELEASE_ID, BODY_MS, GATEWAY_MS, and BROKEN
// (see mistakes.mjs). The first line it prints is its address.
import { readFileSync } from 'node:fs';
import https from 'node:https';
import { Limit, Metrics, Turned, onlyJson, whole } from './http.mjs';
import { Away, Gateway, Refused, verified } from './ikhokha.mjs';
import { repeatMistake } from './mistakes.mjs';
import { Orders, Settling } from './orders.mjs';

const { env } = process;
const WEBHOOK = '/api/webhooks/ikhokha';
const COURSES = new Map([['smoke-001', 100], ['bookkeeping-101', 25_000], ['welding-201', 149_900]]);
const REFERENCE = /^[A-Za-z0-9._-]{1,64}$/;
const BODY = { most: 32 * 1024, within: Number(env.BODY_MS ?? 10_000) };

const account = { id: env.IK_APPID.trim(), secret: env.IK_SECRET.trim() };
const gateway = new Gateway({
  url: env.GATEWAY_URL,
  ca: env.GATEWAY_CA ? readFileSync(env.GATEWAY_CA) : undefined,
  account,
  within: { make: Number(env.GATEWAY_MS ?? 4000), ask: 1500 },
});
const sources = env.WEBHOOK_SOURCES ? env.WEBHOOK_SOURCES.split(',') : undefined;
const metrics = new Metrics();
const orders = new Orders(env.DATA_FILE);
const settling = new Settling(orders, gateway, metrics);
const limits = { payments: new Limit(60, 10), refused: new Limit(60, 10) };
const careful = { verified, settling, orders };
repeatMistake(env.BROKEN, careful);

const json = (status, body, headers = {}) => ({ status, body: JSON.stringify(body), headers });

async function makePayment(request) {
  limits.payments.take(request.socket.remoteAddress);
  onlyJson(request);
  const wanted = understood(await whole(request, BODY));
  if (!wanted) return json(400, { error: 'not a payment that can be made here' });
  const known = orders.get(wanted.reference);
  if (known) return again(known, wanted);
  const order = orders.change(wanted, { status: 'creating', activations: 0 });
  const began = Date.now();
  try {
    const link = await gateway.create(order, addresses(), publicUrl);
    orders.change(order, { status: 'pending', ...link });
    metrics.took('payment_initialisation_seconds', began);
    return json(201, link);
  } catch (error) {
    if (!(error instanceof Refused || error instanceof Away)) throw error;
    if (!order.reference.startsWith('smoke-')) metrics.count('payments_total{outcome="error"}');
    const open = error instanceof Away && error.sent;
    orders.change(order, { status: open ? 'unknown' : 'failed' });
    if (open) settling.lookFor(order.reference);
    return json(error instanceof Refused ? 502 : 503, { error: 'payments cannot be taken at the moment' });
  }
}

function understood(bytes) {
  let said;
  try {
    said = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
  const { reference, amount, currency, course } = said ?? {};
  const known = typeof reference === 'string' && REFERENCE.test(reference) && typeof course === 'string';
  const right = Number.isInteger(amount) && amount === COURSES.get(course) && currency === 'ZAR';
  return known && right ? { reference, amount, currency, course } : undefined;
}

function again(known, wanted) {
  const same = ['amount', 'currency', 'course'].every((member) => known[member] === wanted[member]);
  if (!same || !known.paylinkUrl || known.status !== 'pending') return json(409, { error: 'this reference is taken' });
  return json(200, { paylinkID: known.paylinkID, paylinkUrl: known.paylinkUrl });
}

async function hear(request) {
  const source = request.socket.remoteAddress;
  const began = Date.now();
  if (sources && !sources.includes(source)) return refuse(source, new Turned(403));
  let bytes;
  try {
    onlyJson(request);
    bytes = await whole(request, BODY);
  } catch (turned) {
    return refuse(source, turned);
  }
  const event = careful.verified(account, WEBHOOK, request.headers, bytes);
  if (!event) return refuse(source, new Turned(401));
  const result = await settling.heard(event);
  const { externalTransactionID: reference } = event;
  if (typeof reference !== 'string' || !reference.startsWith('smoke-')) {
    metrics.count(`webhooks_total{result="${result}"}`);
    metrics.took('webhook_processing_seconds', began);
  }
  return json(result === 'later' ? 202 : 200, { result: 'heard' });
}

function refuse(source, turned) {
  metrics.count('webhooks_total{result="refused"}');
  limits.refused.take(source);
  throw turned;
}

function seen(reference, shown) {
  const order = orders.get(reference);
  return order ? json(200, shown(order)) : json(404, { error: 'never seen' });
}

const payment = ({ reference, status, amount, currency, course, paylinkID = null }) =>
  ({ reference, status, amount, currency, course, paylinkID });
const enrolment = ({ reference, activations }) => ({ reference, active: activations > 0, activations });
const page = (title) => () => ({
  status: 200,
  body: `<!doctype html><title>${title}</title><p>${title}`,
  headers: { 'content-type': 'text/html; charset=utf-8', 'content-security-policy': "default-src 'none'" },
});
const ready = () => json(200, {
  release: env.RELEASE_ID ?? 'none', database: 'ok', gateway: gateway.state, webhook: 'ok', configuration: 'ok',
});

// The path is matched as it came, letter by letter: what is spelled differently is another address.
const ROUTES = [
  ['POST', /^\/api\/payments$/, makePayment],
  ['POST', new RegExp(`^${WEBHOOK}$`), hear],
  ['GET', /^\/api\/payments\/([A-Za-z0-9._-]{1,64})$/, (_, reference) => seen(reference, payment)],
  ['GET', /^\/api\/enrolments\/([A-Za-z0-9._-]{1,64})$/, (_, reference) => seen(reference, enrolment)],
  ['GET', /^\/health\/live$/, () => json(200, { live: true })],
  ['GET', /^\/health\/ready$/, ready],
  ['GET', /^\/metrics$/, () => ({ status: 200, body: metrics.text(), headers: { 'content-type': 'text/plain' } })],
  ['GET', /^\/$/, page('Courses')],
  ['GET', /^\/success$/, page('Thank you')],
  ['GET', /^\/failure$/, page('The payment failed')],
  ['GET', /^\/cancel$/, page('The payment was cancelled')],
];

function route(request) {
  const path = request.url.split('?')[0];
  const found = ROUTES.filter(([, pattern]) => pattern.test(path));
  if (found.length === 0) throw new Turned(404);
  const allowed = found.find(([method]) => method === request.method);
  if (!allowed) throw new Turned(405, { allow: found.map(([method]) => method).join(', ') });
  return allowed[2](request, path.match(allowed[1])[1]);
}

async function answer(request, response) {
  let found;
  try {
    found = await route(request);
  } catch (error) {
    if (!(error instanceof Turned)) console.error(JSON.stringify({ event: 'crashed', error: String(error.stack) }));
    found = json(error.status ?? 500, { error: 'refused' }, error.headers);
  }
  if (response.destroyed) return;
  const length = Buffer.byteLength(found.body);
  const common = { 'content-type': 'application/json', 'cache-control': 'no-store', 'content-length': length };
  response.writeHead(found.status, { ...common, ...found.headers }).end(found.body);
  // What still comes is read and thrown away for a moment, so that the sender gets to see the answer.
  if (request.complete) return;
  request.resume();
  setTimeout(() => request.complete || request.destroy(), 2000).unref();
}

let publicUrl = env.PUBLIC_URL;
const addresses = () => ({
  callbackUrl: publicUrl + WEBHOOK,
  successPageUrl: `${publicUrl}/success`,
  failurePageUrl: `${publicUrl}/failure`,
  cancelUrl: `${publicUrl}/cancel`,
});

const server = https.createServer({ cert: readFileSync(env.TLS_CERT), key: readFileSync(env.TLS_KEY) }, answer);
server.requestTimeout = 60_000;
server.listen(Number(env.PORT ?? 0), env.HOST ?? '127.0.0.1', () => {
  const { address, port } = server.address();
  publicUrl ??= `https://${address}:${port}`;
  console.log(JSON.stringify({ listening: `https://${address}:${port}` }));
});
process.on('SIGTERM', () => {
  settling.stop();
  server.close(() => process.exit(0));
  server.closeAllConnections();
});
