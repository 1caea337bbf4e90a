/**
 * Routing of packets, on both targets: what is rewritten, what is dropped, and where everything goes, against a router written plainly.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { MBUF_PORT } from '../../src/memory/mbuf-layout.ts';
import { parseIpAddress } from '../../src/net/ip-address.ts';
import { Router, type RouterOptions } from '../../src/net/router.ts';
import { LIST_BYTES, LISTS_COUNTS, LISTS_HANDLES, ROUTER_LISTS_BYTES } from '../../src/net/router-layout.ts';
import type { KernelTarget } from '../../src/ring/kernels.ts';
import { buildFrame, sum16, type FrameFields } from '../support/frames.ts';
import { PacketBench } from '../support/packets.ts';
import { TARGETS } from '../support/ring-pair.ts';

/** Ports of the test: 5 and 0 take part, as the outputs 0 and 1. */
const PORTS = [5, 0];
const source = (port: number): number[] => [0x02, 0xaa, 0, 0, 0, port];
const destination = (port: number): number[] => [0x02, 0, 0, 0, 0, port];

class RouterBench implements Disposable {
  readonly packets: PacketBench;
  readonly router: Router;
  readonly #lists: number;

  constructor(target: KernelTarget, options: RouterOptions = {}) {
    this.packets = new PacketBench(target);
    const { ring } = this.packets;
    this.router = new Router(ring.arena, ring.kernels, options);
    this.#lists = ring.own(ROUTER_LISTS_BYTES);
    for (const [output, port] of PORTS.entries()) {
      this.router.addPort(port, { output, source: Uint8Array.from(source(port)), destination: Uint8Array.from(destination(port)) });
    }
  }

  /** Routes frames that came in by a port; what leaves, by port, and how many were dropped. */
  route(frames: readonly Uint8Array[], inPort = 5): { readonly dropped: number; readonly out: ReadonlyMap<number, readonly Buffer[]> } {
    const { packets } = this;
    const { ring } = packets;
    const handles = frames.map((bytes) => packets.packet(bytes));
    for (const handle of handles) ring.st16(handle + MBUF_PORT, inPort);
    const dropped = ring.kernels.routePackets(this.router.offset, ring.list(handles), handles.length, this.#lists, PORTS.length, 0);
    const out = new Map<number, readonly Buffer[]>();
    for (const [output, port] of PORTS.entries()) {
      const count = ring.ld32(this.#lists + LISTS_COUNTS + 4 * output);
      const first = (this.#lists + LISTS_HANDLES + LIST_BYTES * output) >>> 2;
      const left = [...ring.u32.subarray(first, first + count)];
      if (count > 0) out.set(port, packets.bytes(left));
      packets.free(left);
    }
    return { dropped, out };
  }

  [Symbol.dispose](): void {
    this.router.close();
    this.packets[Symbol.dispose]();
  }
}

interface Addressed extends Partial<FrameFields> {
  readonly to: string;
  readonly from?: string;
  readonly timeToLive?: number;
}

/** A frame to an address, everything right in its header. */
function frameTo({ to, from, timeToLive = 64, ...fields }: Addressed): Buffer {
  const address = parseIpAddress(to) ?? new Uint8Array(4);
  const version = address.length === 4 ? 4 : 6;
  const { bytes, ip } = buildFrame({ protocol: 'udp', payload: Buffer.from('payload'), ...fields, version });
  const fromBytes = from === undefined ? undefined : parseIpAddress(from);
  if (version === 4) {
    bytes.set(address, ip + 16);
    if (fromBytes !== undefined) bytes.set(fromBytes, ip + 12);
    bytes[ip + 8] = timeToLive;
    return signed(bytes, ip);
  }
  bytes.set(address, ip + 24);
  if (fromBytes !== undefined) bytes.set(fromBytes, ip + 8);
  bytes[ip + 7] = timeToLive;
  return bytes;
}

function signed(bytes: Buffer, ip = 14): Buffer {
  bytes.writeUInt16BE(0, ip + 10);
  bytes.writeUInt16BE(~sum16(bytes.subarray(ip, ip + ((bytes[ip] ?? 0) & 15) * 4)) & 0xffff, ip + 10);
  return bytes;
}

/** What a frame is when it leaves by a port. */
function sentBy(port: number, before: Buffer): Buffer {
  const after = Buffer.from(before);
  after.set([...destination(port), ...source(port)]);
  const place = before.readUInt16BE(12) === 0x0800 ? 14 + 8 : 14 + 7;
  after[place] = (after[place] ?? 0) - 1;
  return before.readUInt16BE(12) === 0x0800 ? signed(after) : after;
}

describe.each(TARGETS)('%s', (target) => {
  test('by prefix, IPv4 and IPv6: addresses, time to live and checksum', () => {
    using bench = new RouterBench(target);
    bench.router.addRoute('198.18.0.0/24', 0);
    bench.router.addRoute('2001:200::/64', 0);
    bench.router.addRoute('198.18.1.0/24', 5);
    const frames = ['198.18.0.9', '2001:200::7', '198.18.1.1'].map((to) => frameTo({ to }));
    const [a, b, c] = frames as [Buffer, Buffer, Buffer];
    const { dropped, out } = bench.route(frames);
    expect(dropped).toBe(0);
    expect(out.get(0)).toEqual([sentBy(0, a), sentBy(0, b)]);
    expect(out.get(5)).toEqual([sentBy(5, c)]);
  });

  test('without a route, or with one to a port that takes no part, back by the port that it came from', () => {
    using bench = new RouterBench(target);
    bench.router.addRoute('198.18.0.0/24', 3);
    bench.router.addRoute('198.18.1.0/24', 60_000);
    const frames = ['198.18.0.9', '198.18.1.9', '192.0.2.1', 'fe80::1'].map((to) => frameTo({ to }));
    expect(bench.route(frames, 0).out.get(0)).toEqual(frames.map((bytes) => sentBy(0, bytes)));
    // nowhere to go at all
    expect(bench.route(frames, 7)).toEqual({ dropped: 4, out: new Map() });
  });

  test('flows come before prefixes', () => {
    using bench = new RouterBench(target, { flows: 8 });
    bench.router.addRoute('198.18.0.0/24', 5);
    const flow = {
      destination: Uint8Array.of(198, 18, 0, 1),
      source: Uint8Array.of(10, 0, 0, 1),
      destinationPort: 0x5678,
      sourcePort: 0x1234,
      protocol: 17,
    };
    bench.router.addFlow(flow, 0);
    const six = { destination: parseIpAddress('2001:db8::1') ?? flow.source, source: parseIpAddress('2001:db8::2') ?? flow.source };
    bench.router.addFlow({ ...six, destinationPort: 80, sourcePort: 49_152, protocol: 6 }, 0);
    const frames = [
      frameTo({ to: '198.18.0.1', from: '10.0.0.1' }),
      frameTo({ to: '198.18.0.1', from: '10.0.0.1', ipOptions: Buffer.from([1, 1, 1, 1]) }),
      frameTo({ to: '2001:db8::1', from: '2001:db8::2', protocol: 'tcp', extensions: 1 }),
      frameTo({ to: '198.18.0.1', from: '10.0.0.2' }),
    ];
    const { out } = bench.route(frames);
    expect(out.get(0)).toEqual(frames.slice(0, 3).map((bytes) => sentBy(0, bytes)));
    expect(out.get(5)).toEqual(frames.slice(3).map((bytes) => sentBy(5, bytes)));
    expect(bench.router.deleteFlow(flow)).toBe(true);
    expect(bench.route(frames.slice(0, 1)).out.get(5)).toHaveLength(1);
  });

  const good = (): Buffer => frameTo({ to: '198.18.0.1' });
  const six = (): Buffer => frameTo({ to: '2001:200::1' });
  const changed = (bytes: Buffer, at: number, value: number, sign = true): Buffer => {
    bytes[at] = value;
    return sign ? signed(bytes) : bytes;
  };
  test.each([
    ['no IP', changed(good(), 13, 0x06)],
    ['a VLAN tag', frameTo({ to: '2001:200::1', vlans: [5] })],
    ['a wrong checksum', changed(good(), 14 + 10, 0x77, false)],
    ['version 6 under the type of IPv4', changed(good(), 14, 0x65)],
    ['a header of 16 bytes', changed(good(), 14, 0x44)],
    ['a header longer than the packet', changed(good(), 14, 0x4f)],
    ['a total length below the header', changed(changed(good(), 16, 0), 17, 19)],
    ['a total length beyond the packet', changed(good(), 16, 1)],
    ['a time to live of 1', frameTo({ to: '198.18.0.1', timeToLive: 1 })],
    ['a time to live of 0', frameTo({ to: '198.18.0.1', timeToLive: 0 })],
    ['a hop limit of 1', frameTo({ to: '2001:200::1', timeToLive: 1 })],
    ['version 4 under the type of IPv6', changed(six(), 14, 0x40, false)],
    ['a payload length beyond the packet', changed(six(), 14 + 4, 1, false)],
    ['half an IPv4 header', good().subarray(0, 30)],
    ['half an IPv6 header', six().subarray(0, 50)],
    ['an Ethernet header alone', good().subarray(0, 14)],
  ])('drops %s', (_, bytes) => {
    using bench = new RouterBench(target);
    bench.router.addRoute('0.0.0.0/0', 0);
    bench.router.addRoute('::/0', 0);
    expect(bench.route([bytes, good()])).toMatchObject({ dropped: 1 });
  });

  test('a packet with padding behind it is as good as one without', () => {
    using bench = new RouterBench(target);
    bench.router.addRoute('0.0.0.0/0', 0);
    const bytes = Buffer.concat([good(), Buffer.alloc(18)]);
    expect(bench.route([bytes]).out.get(0)).toEqual([sentBy(0, bytes)]);
  });

  test('every time to live and checksum there is', () => {
    using bench = new RouterBench(target);
    bench.router.addRoute('0.0.0.0/0', 0);
    for (let round = 0; round < 40; round++) {
      const frames = Array.from({ length: 100 }, (_, index) => {
        const bytes = frameTo({ to: '198.18.0.1', timeToLive: 2 + ((round + index) % 254) });
        bytes.writeUInt16BE((round * 100 + index) * 2 + 1 > 0xffff ? index : (round * 100 + index) * 2, 14 + 4);
        return signed(bytes);
      });
      expect(bench.route(frames).out.get(0)).toEqual(frames.map((bytes) => sentBy(0, bytes)));
    }
  });
});

test('property: both targets do the same with any bytes, and lose no mbuf', () => {
  const bytes = fc.oneof(
    fc.uint8Array({ minLength: 14, maxLength: 80 }),
    // something that is nearly a packet
    fc.tuple(fc.boolean(), fc.nat(80), fc.nat(255), fc.nat(80)).map(([four, at, value, cut]) => {
      const frame = four ? frameTo({ to: '198.18.0.1' }) : frameTo({ to: '2001:200::1', protocol: 'tcp' });
      if (at < frame.length) frame[at] = value;
      return Uint8Array.from(cut < 14 ? frame : frame.subarray(0, Math.max(14, cut)));
    }),
  );
  fc.assert(
    fc.property(fc.array(bytes, { maxLength: 32 }), fc.constantFrom(0, 5, 9), (frames, port) => {
      const results = TARGETS.map((target) => {
        using bench = new RouterBench(target, { flows: 4 });
        bench.router.addRoute('198.18.0.0/24', 0);
        bench.router.addRoute('::/0', 5);
        const result = bench.route(frames, port);
        const left = [...result.out.values()].reduce((sum, list) => sum + list.length, 0);
        expect(left + result.dropped).toBe(frames.length);
        return result;
      });
      expect(results[0]).toEqual(results[1]);
    }),
    { numRuns: 100 },
  );
});

test('what cannot be set', () => {
  using bench = new RouterBench('wasm', { prefixes: false });
  expect(() => bench.router.addRoute('10.0.0.0/8', 0)).toThrow(/without prefixes/);
  expect(() => bench.router.addRoute('10.0.0.0/40', 0)).toThrow(/expected a prefix/);
  expect(() => bench.router.addPort(64, { output: 0, source: new Uint8Array(6), destination: new Uint8Array(6) })).toThrow(/0\.\.63/);
  const flow = { destination: new Uint8Array(4), source: new Uint8Array(4), destinationPort: 1, sourcePort: 1, protocol: 6 };
  expect(() => bench.router.addFlow(flow, 0)).toThrow(/without flows/);
});
