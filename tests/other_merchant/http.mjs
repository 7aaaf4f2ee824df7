// What a request must be before anyone looks at what it says: its type, its size, its time, its share.

/** A request that gets no further, and the answer for it. */
export class Turned extends Error {
  constructor(status, headers = {}) {
    super(`turned away with ${status}`);
    this.status = status;
    this.headers = headers;
  }
}

export function onlyJson(request) {
  const type = /^application\/json(?:\s*;\s*charset="?utf-8"?)?\s*$/i;
  if (!type.test(request.headers['content-type'] ?? '') || 'content-encoding' in request.headers) throw new Turned(415);
}

/** The whole body, or Turned: 413 when it is larger than `most` bytes, 408 when it takes longer than `within` ms. */
export function whole(request, { most, within }) {
  return new Promise((resolve, reject) => {
    const parts = [];
    let size = Number(request.headers['content-length'] ?? 0) > most ? Infinity : 0;
    const end = (settle, value) => {
      clearTimeout(timer);
      settle(value);
    };
    const timer = setTimeout(() => end(reject, new Turned(408)), within);
    const tooLarge = () => end(reject, new Turned(413));
    if (size > most) return tooLarge();
    request.on('data', (part) => {
      size += part.length;
      if (size > most) return tooLarge();
      parts.push(part);
    });
    request.on('end', () => end(resolve, Buffer.concat(parts)));
    request.on('close', () => end(reject, new Turned(400)));
  });
}

/** A bucket for each address. */
export class Limit {
  #buckets = new Map();

  constructor(burst, perSecond) {
    Object.assign(this, { burst, perSecond });
  }

  take(address) {
    const now = Date.now() / 1000;
    const { left, at } = this.#buckets.get(address) ?? { left: this.burst, at: now };
    const filled = Math.min(this.burst, left + (now - at) * this.perSecond);
    this.#buckets.delete(address);
    if (this.#buckets.size > 10_000) this.#buckets.delete(this.#buckets.keys().next().value);
    this.#buckets.set(address, { left: Math.max(0, filled - 1), at: now });
    if (filled < 1) throw new Turned(429, { 'retry-after': Math.ceil((1 - filled) / this.perSecond) });
  }
}

const BOUNDS = [0.1, 0.5, 1, 2, 5];

/** Counters and histograms in Prometheus text; smoke payments are left out. */
export class Metrics {
  #values = new Map();

  count(name, by = 1) {
    this.#values.set(name, (this.#values.get(name) ?? 0) + by);
  }

  activated(reference) {
    if (reference.startsWith('smoke-')) return;
    this.count('payments_total{outcome="success"}');
    this.count('enrolments_activated_total');
  }

  took(name, since) {
    const seconds = (Date.now() - since) / 1000;
    for (const bound of BOUNDS) this.count(`${name}_bucket{le="${bound}"}`, seconds <= bound ? 1 : 0);
    this.count(`${name}_bucket{le="+Inf"}`);
    this.count(`${name}_count`);
    this.count(`${name}_sum`, seconds);
  }

  text() {
    return [...this.#values].map(([name, value]) => `${name} ${value}\n`).join('');
  }
}
