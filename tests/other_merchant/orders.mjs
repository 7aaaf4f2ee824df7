// What was ordered and what became of it. Every change is a line in a file before anyone hears of it.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { Away, Refused } from './ikhokha.mjs';

export class Orders {
  #byReference = new Map();

  constructor(file) {
    this.file = file;
    if (!file || !existsSync(file)) return;
    for (const line of readFileSync(file, 'utf8').split('\n').filter(Boolean)) {
      const order = JSON.parse(line);
      this.#byReference.set(order.reference, order);
    }
  }

  get(reference) {
    return this.#byReference.get(reference);
  }

  change(order, changes) {
    const changed = { ...order, ...changes };
    if (this.file) appendFileSync(this.file, `${JSON.stringify(changed)}\n`, { mode: 0o600 });
    this.#byReference.set(order.reference, changed);
    return changed;
  }

  /** One activation for each order, however often it is called: nothing is awaited between look and act. */
  activate(reference) {
    const order = this.get(reference);
    if (order.activations > 0) return false;
    this.change(order, { status: 'paid', activations: 1 });
    return true;
  }
}

/** Brings orders to what the gateway says of them. A webhook is only a reason to ask. */
export class Settling {
  #waiting = new Map();

  constructor(orders, gateway, metrics) {
    Object.assign(this, { orders, gateway, metrics });
  }

  /** What a verified webhook comes to: accepted, duplicate, failed, denied, unknown or later. */
  async heard({ status, paylinkID, externalTransactionID: reference }) {
    const order = typeof reference === 'string' ? this.orders.get(reference) : undefined;
    if (!order?.paylinkID || order.paylinkID !== paylinkID) return 'unknown';
    if (status !== 'SUCCESS' && status !== 'FAILURE') return 'ignored';
    if (order.status === 'paid') return 'duplicate';
    try {
      return await this.ask(reference, status === 'FAILURE');
    } catch (error) {
      if (!(error instanceof Away || error instanceof Refused)) throw error;
      this.later(() => this.ask(reference, status === 'FAILURE'), reference);
      return 'later';
    }
  }

  async ask(reference, failed) {
    const { paylinkID, amount } = this.orders.get(reference);
    const seen = await this.gateway.status(paylinkID);
    if (seen.status === 'PAID') {
      if (seen.paylinkID !== paylinkID || seen.amount !== amount) return 'denied';
      if (!this.orders.activate(reference)) return 'duplicate';
      this.metrics.activated(reference);
      return 'accepted';
    }
    const now = this.orders.get(reference);
    if (failed && now.status === 'pending') this.orders.change(now, { status: 'failed' });
    return failed ? 'failed' : 'denied';
  }

  /** Finds out whether a payment whose making was never answered exists, and keeps its link. */
  lookFor(reference) {
    this.later(async () => {
      const seen = await this.gateway.statusOf(reference);
      const order = this.orders.get(reference);
      if (typeof seen.paylinkID !== 'string' || order.paylinkID) return;
      this.orders.change(order, { status: 'pending', paylinkID: seen.paylinkID });
      await this.ask(reference, false);
    }, reference);
  }

  later(attempt, reference, delay = 1000) {
    if (this.#waiting.has(reference) || delay > 3_600_000) return;
    const timer = setTimeout(async () => {
      this.#waiting.delete(reference);
      try {
        await attempt();
      } catch {
        this.later(attempt, reference, delay * 2);
      }
    }, delay);
    this.#waiting.set(reference, timer);
  }

  stop() {
    this.#waiting.forEach(clearTimeout);
  }
}
