// The iK Pay API on the wire: how messages are signed, and the calls a shop makes.
import { createHmac, timingSafeEqual } from 'node:crypto';
import https from 'node:https';

const API = '/public-api/v1/api';
const LARGEST_ANSWER = 64 * 1024;

/** The gateway understood and said no: no payment was made. */
export class Refused extends Error {}

/** The gateway did not answer, or answered nonsense. `sent`: the request may have had its effect all the same. */
export class Away extends Error {
  constructor(message, sent) {
    super(message);
    this.sent = sent;
  }
}

export function sign(secret, path, body = '') {
  const message = (path + body).replace(/[\\"']/g, '\\$&');
  return createHmac('sha256', secret).update(message, 'utf8').digest('hex');
}

/** What a webhook says and the text its signature covers. Throws for bytes that are not JSON in UTF-8. */
export function canonical(bytes) {
  const event = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  if (event === null || typeof event !== 'object') throw new SyntaxError('not an object');
  delete event.text;
  return { event, text: JSON.stringify(event) };
}

export function sameSignature(given, right) {
  return /^[0-9a-f]{64}$/.test(given) && timingSafeEqual(Buffer.from(given), Buffer.from(right));
}

/** The event of a webhook, or undefined for one that the gateway did not sign. Never throws. */
export function verified(account, path, headers, bytes, read = canonical) {
  try {
    const { event, text } = read(bytes);
    const genuine = sameSignature(headers['ik-sign'] ?? '', sign(account.secret, path, text));
    return genuine && headers['ik-appid'] === account.id ? event : undefined;
  } catch {
    return undefined;
  }
}

export class Gateway {
  #kept = new https.Agent({ keepAlive: true, maxSockets: 20 });
  /** What its last answer was worth: `ok`, or a reason. */
  state = 'ok';

  /** `within`: the most ms that making a payment (`make`) and asking about one (`ask`) may take. */
  constructor({ url, ca, account, within }) {
    Object.assign(this, { url: new URL(url), ca, account, within });
  }

  /** Makes a payment; never repeated. Raises Refused, or Away, whose `sent` says whether one may have been made. */
  async create(order, urls, requesterUrl) {
    const body = JSON.stringify({
      entityID: this.account.id,
      amount: order.amount,
      currency: order.currency,
      requesterUrl,
      mode: 'live',
      description: `Course ${order.course}`,
      externalTransactionID: order.reference,
      urls,
    });
    const answer = await this.#ask('POST', `${API}/payment`, { body });
    if (answer.responseCode !== '00') throw new Refused(`response code ${answer.responseCode}`);
    const { paylinkID, paylinkUrl, externalTransactionID } = answer;
    const whole = typeof paylinkID === 'string' && paylinkID !== '' && /^https:\/\//.test(paylinkUrl);
    if (!whole || externalTransactionID !== order.reference) throw new Away('an answer without a link', true);
    return { paylinkID, paylinkUrl };
  }

  status(paylinkID) {
    return this.#ask('GET', `${API}/getStatus/${encodeURIComponent(paylinkID)}`);
  }

  /** What became of a payment whose making was never answered. */
  statusOf(reference) {
    return this.#ask('GET', `${API}/getStatus/external`, { query: `?externalReference=${reference}` });
  }

  async #ask(method, path, { query = '', body = '' } = {}) {
    try {
      const answer = await this.#exchange(method, path, query, body);
      this.state = 'ok';
      return answer;
    } catch (error) {
      this.state = error instanceof Refused ? 'ok' : 'away';
      throw error;
    }
  }

  #exchange(method, path, query, body) {
    return new Promise((resolve, reject) => {
      const asks = method === 'GET';
      let sent = asks;
      const headers = { 'IK-APPID': this.account.id, 'IK-SIGN': sign(this.account.secret, path, body) };
      if (body) headers['Content-Type'] = 'application/json';
      if (body) headers['Content-Length'] = Buffer.byteLength(body);
      const request = https.request(new URL(path + query, this.url), {
        method,
        headers,
        ca: this.ca,
        agent: asks ? this.#kept : false,
        signal: AbortSignal.timeout(asks ? this.within.ask : this.within.make),
      });
      const fail = (error) => reject(new Away(error.message, sent));
      if (!asks) request.on('socket', (socket) => socket.once('secureConnect', () => (sent = true)));
      request.on('error', fail);
      request.on('response', (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('error', fail);
        response.on('data', (part) => {
          text += part;
          if (text.length > LARGEST_ANSWER) response.destroy(new Error('an answer too large'));
        });
        response.on('end', () => {
          try {
            resolve(understood(response.statusCode, text));
          } catch (error) {
            reject(error);
          }
        });
      });
      request.end(body);
    });
  }
}

function understood(status, text) {
  if (status >= 400 && status < 500) throw new Refused(`answered ${status}`);
  if (status !== 200) throw new Away(`answered ${status}`, true);
  try {
    const answer = JSON.parse(text);
    if (answer !== null && typeof answer === 'object') return answer;
  } catch {
    // Falls through: what is not JSON is as good as no answer.
  }
  throw new Away('an answer that is no JSON object', true);
}
