import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { hex, sum16 } from '../support/frames.ts';
import { PacketBench } from '../support/packets.ts';
import { frame, TARGETS } from '../support/ring-pair.ts';

const OWN = '0200000000aa';
const REQUEST = `ffffffffffff 020000000001 0806 0001 0800 0604 0001 020000000001 0a000001 000000000000 0a000009`;
const REPLY = `020000000001 ${OWN} 0806 0001 0800 0604 0002 ${OWN} 0a000009 020000000001 0a000001`;

function ping(payload: Uint8Array, tag = ''): Buffer {
  const icmp = Buffer.concat([hex('0800 0000 1234 0007'), payload]);
  icmp.writeUInt16BE(~sum16(icmp) & 0xffff, 2);
  const ip = hex('4500 0000 0001 0000 4001 0000 0a000001 0a000002');
  ip.writeUInt16BE(20 + icmp.length, 2);
  ip.writeUInt16BE(~sum16(ip) & 0xffff, 10);
  return Buffer.concat([hex(`020000000002 020000000001 ${tag} 0800`), ip, icmp]);
}

describe.each(TARGETS)('answering requests on %s', (target) => {
  let bench: PacketBench;
  beforeEach(() => {
    bench = new PacketBench(target);
    bench.ring.write(bench.addresses, hex(OWN));
  });
  afterEach(() => bench[Symbol.dispose]());

  const answers = (packets: readonly Uint8Array[], segments: readonly number[] = []): Buffer[] => {
    const { ring } = bench;
    const handles = packets.map((bytes) => bench.packet(bytes, {}, { segments: segments.filter((length) => length <= bytes.length) }));
    const count = ring.kernels.answerRequests(ring.list(handles), handles.length, bench.addresses, 0);
    const left = ring.listed(count);
    const bytes = bench.bytes(left);
    bench.free(left);
    return bytes;
  };

  it('gives its own address for any that ARP asks for (RFC 826)', () => {
    expect(answers([hex(REQUEST)])).toEqual([hex(REPLY)]);
    const tagged = (text: string): Buffer => Buffer.concat([hex(text).subarray(0, 12), hex('8100 0123'), hex(text).subarray(12)]);
    expect(answers([tagged(REQUEST)])).toEqual([tagged(REPLY)]);
  });

  it('echoes every payload with the checksums right, its tail in other segments (RFC 792)', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.constantFrom('', '8100 0005'), (payload, tag) => {
        const request = ping(payload, tag);
        const [reply = Buffer.alloc(0)] = answers([request], [42 + tag.replace(' ', '').length / 2]);
        const start = request.length - payload.length - 28;
        expect(reply.subarray(0, start)).toEqual(
          Buffer.concat([request.subarray(6, 12), request.subarray(0, 6), request.subarray(12, start)]),
        );
        expect(reply.subarray(start + 12, start + 20)).toEqual(hex('0a000002 0a000001'));
        expect(sum16(reply.subarray(start, start + 20))).toBe(0xffff);
        expect(reply[start + 20]).toBe(0);
        expect([0, 0xffff]).toContain(sum16(reply.subarray(start + 20)));
        expect(reply.subarray(start + 24)).toEqual(request.subarray(start + 24));
      }),
      { numRuns: 150 },
    );
  });

  it('answers among what it frees, in order', () => {
    const other = Buffer.concat([hex('020000000002 020000000001 88b5'), frame(50)]);
    const [first, second, ...more] = answers([other, ping(frame(10)), other, hex(REQUEST), other]);
    expect(first?.length).toBe(52);
    expect(second).toEqual(hex(REPLY));
    expect(more).toEqual([]);
  });

  it('frees what is cut anywhere, or random', () => {
    const request = ping(frame(20));
    const whole = request.length;
    const cut = Array.from({ length: whole }, (_, end) => request.subarray(0, end));
    expect(answers(cut)).toEqual([]);
    expect(answers(Array.from({ length: 42 }, (_, end) => hex(REQUEST).subarray(0, end)))).toEqual([]);
    const change = fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(change, fc.boolean(), (changes, arp) => {
        const bytes = Buffer.from(arp ? hex(REQUEST) : request);
        for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
        expect(answers([bytes]).length).toBeLessThan(2);
        expect(bench.pool.free()).toBe(256);
      }),
      { numRuns: 200 },
    );
  });
});
