// Mistakes that teams make. Each one takes the place of one careful part.
import { canonical, verified } from './ikhokha.mjs';

const reading = (read) => (careful) => {
  careful.verified = (account, path, headers, bytes) => verified(account, path, headers, bytes, read);
};

const MISTAKES = {
  // The signature is made again from the members by name: any order of them, and any further ones, pass.
  'rebuilds-the-body': reading((bytes) => {
    const { paylinkID, status, externalTransactionID, responseCode } = canonical(bytes).event;
    const event = { paylinkID, status, externalTransactionID, responseCode };
    return { event, text: JSON.stringify(event) };
  }),
  // The bytes are verified as they came. It works until someone between re-writes them.
  'verifies-raw-bytes': reading((bytes) => ({ event: canonical(bytes).event, text: bytes.toString() })),
  // The webhook is believed: nobody asks the gateway.
  'believes-the-webhook': ({ settling, orders }) => {
    settling.ask = async (reference, failed) => {
      if (failed) return 'failed';
      return orders.activate(reference) ? 'accepted' : 'duplicate';
    };
  },
  // Look, wait, act: what comes at the same moment looks before any of them has acted.
  'looks-then-waits': ({ settling, orders }) => {
    const careful = settling.ask;
    settling.ask = async (reference, failed) => {
      const { paylinkID, amount } = orders.get(reference);
      const seen = await settling.gateway.status(paylinkID);
      if (seen.status !== 'PAID' || seen.amount !== amount) return careful.call(settling, reference, failed);
      const order = orders.get(reference);
      orders.change(order, { status: 'paid', activations: order.activations + 1 });
      return 'accepted';
    };
  },
};

export function repeatMistake(name, careful) {
  if (name) MISTAKES[name](careful);
}
