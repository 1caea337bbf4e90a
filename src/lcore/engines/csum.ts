/**
 * csum: rewrites Ethernet addresses, recomputes the checksums of IPv4, TCP and UDP or asks the transmit port to, asks it for
 * segmentation (`tso set`), gathers TCP segments (gro) and cuts packets that are too long (gso).
 * @module
 */
import {
  CSUM_BAD_IP,
  CSUM_BAD_TRANSPORT,
  CSUM_GRO_CYCLES,
  CSUM_GSO_SIZE,
  CSUM_HELD,
  CSUM_HELD_BURSTS,
  CSUM_LOST,
  CSUM_NEXT,
} from '../../net/recompute-checksums.kernel.ts';
import type { EngineStream, ForwardingEngine } from './engine.ts';

/** Handles that fit where an engine keeps them. */
const ROOM = 512;

function load(stream: EngineStream, field: number): number {
  return stream.context.views.u32[(stream.csum + field) >>> 2] ?? 0;
}

function store(stream: EngineStream, field: number, value: number): void {
  stream.context.views.u32[(stream.csum + field) >>> 2] = value;
}

function countBad(stream: EngineStream): void {
  const ip = load(stream, CSUM_BAD_IP);
  const transport = load(stream, CSUM_BAD_TRANSPORT);
  if (ip === 0 && transport === 0) return;
  stream.countBadChecksums(ip, transport);
  store(stream, CSUM_BAD_IP, 0);
  store(stream, CSUM_BAD_TRANSPORT, 0);
}

/** Sends the first `count` of the burst, those that are too long in parts; the parts may be many bursts. */
function sendCut(stream: EngineStream, count: number): void {
  const { context, mbufs, held, lcore, csum } = stream;
  const { kernels, views } = context;
  views.u32.copyWithin(held >>> 2, mbufs >>> 2, (mbufs >>> 2) + count);
  store(stream, CSUM_NEXT, 0);
  while (load(stream, CSUM_NEXT) < count) {
    const made = kernels.cutLargePackets(csum, held, count, mbufs, ROOM, lcore);
    if (made !== 0) stream.send(made);
  }
  const lost = load(stream, CSUM_LOST);
  if (lost === 0) return;
  stream.countDropped(lost);
  store(stream, CSUM_LOST, 0);
}

function sendBurst(stream: EngineStream, count: number): void {
  if (load(stream, CSUM_GSO_SIZE) === 0) stream.send(count);
  else sendCut(stream, count);
}

/** Sends what gro has held back. */
function sendHeld(stream: EngineStream): void {
  const count = load(stream, CSUM_HELD);
  if (count === 0) return;
  const { context, mbufs, held } = stream;
  context.kernels.finishGathering(stream.csum);
  context.views.u32.copyWithin(mbufs >>> 2, held >>> 2, (held >>> 2) + count);
  store(stream, CSUM_HELD, 0);
  store(stream, CSUM_HELD_BURSTS, 0);
  sendBurst(stream, count);
}

/** Puts what belongs together among the packets of several bursts into one, and sends after so many bursts, empty ones too. */
function gatherAcrossBursts(stream: EngineStream, received: number, cycles: number): void {
  const { context, mbufs, held, lcore, csum } = stream;
  let kept = load(stream, CSUM_HELD);
  if (received === 0 && kept === 0) return;
  kept = context.kernels.gatherPackets(csum, mbufs, received, held, kept, lcore);
  store(stream, CSUM_HELD, kept);
  const bursts = load(stream, CSUM_HELD_BURSTS) + 1;
  store(stream, CSUM_HELD_BURSTS, bursts);
  // and before there could be more than there is room for
  if (bursts >= cycles || kept + stream.burst > ROOM) sendHeld(stream);
}

export const csum: ForwardingEngine = {
  name: 'csum',
  forward(stream) {
    const received = stream.receive();
    const cycles = load(stream, CSUM_GRO_CYCLES);
    const { kernels } = stream.context;
    if (received !== 0) {
      kernels.recomputeChecksums(stream.csum, stream.addresses, stream.mbufs, received);
      countBad(stream);
    }
    if (cycles > 1) {
      gatherAcrossBursts(stream, received, cycles);
      return;
    }
    if (received === 0) return;
    let count = received;
    if (cycles !== 0) {
      count = kernels.gatherPackets(stream.csum, stream.mbufs, received, stream.mbufs, 0, stream.lcore);
      kernels.finishGathering(stream.csum);
    }
    sendBurst(stream, count);
  },
  end: sendHeld,
};
