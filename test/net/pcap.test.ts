import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CAPTURE_PACKET_LIMIT } from '../../src/net/pcap-format.ts';
import { captureHeader, captureRecord, readCapture } from '../../src/net/pcap.ts';
import { VirtioError } from '../../src/system/error.ts';
import { block, enhancedBlock, interfaceBlock, pcapFile, pcapngFile, sectionBlock, simpleBlock } from '../support/captures.ts';

const hex = (text: string): Buffer<ArrayBuffer> => Buffer.from(text.replaceAll(/\s/g, ''), 'hex');
const bytesOf = (file: Uint8Array): Buffer[] => readCapture('x', file).packets.map(({ bytes }) => Buffer.from(bytes));

describe('reading capture files', () => {
  it('reads a pcap file byte by byte (draft-ietf-opsawg-pcap, 4 and 5)', () => {
    const file = hex(`d4c3b2a1 0200 0400 00000000 00000000 ffff0000 01000000
      04030201 40420f00 03000000 40000000 aabbcc`);
    expect(readCapture('x.pcap', file)).toEqual({
      format: 'pcap',
      packets: [{ bytes: new Uint8Array(hex('aabbcc')), length: 64, seconds: 0x01020304, nanoseconds: 1_000_000_000, linkType: 1 }].map(
        (packet) => ({ ...packet, bytes: Buffer.from(packet.bytes) }),
      ),
      problem: undefined,
    });
  });

  it('reads a big-endian pcap file with nanoseconds', () => {
    const file = hex(`a1b23c4d 0002 0004 00000000 00000000 0000ffff 00000001
      01020304 00000005 00000001 00000001 7f`);
    expect(readCapture('x.pcap', file).packets).toMatchObject([{ length: 1, seconds: 0x01020304, nanoseconds: 5 }]);
  });

  it('reads a pcapng file byte by byte (draft-ietf-opsawg-pcapng, 4.1 to 4.3)', () => {
    const file = hex(`0a0d0d0a 1c000000 4d3c2b1a 0100 0000 ffffffffffffffff 1c000000
      01000000 20000000 0100 0000 00000400  0900 0100 09000000 0000 0000 20000000
      06000000 24000000 00000000 d0ad2317 00e1f505 03000000 3c000000 aabbcc00 24000000`);
    const [packet] = readCapture('x', file).packets;
    const ticks = (BigInt(0x1723add0) << 32n) | 0x05f5e100n;
    expect(packet).toMatchObject({ length: 60, seconds: Number(ticks / 1_000_000_000n), nanoseconds: Number(ticks % 1_000_000_000n) });
    expect(Buffer.from(packet?.bytes ?? [])).toEqual(hex('aabbcc'));
  });

  it.each([
    ['10^-6 by default', '', 3_000_001n, 3, 1000],
    ['10^-3', '09000100 03000000', 3_001n, 3, 1_000_000],
    ['2^-10', '09000100 8a000000', 3n * 1024n + 512n, 3, 500_000_000],
    ['an offset of 100 s', '0e000800 6400000000000000', 3_000_001n, 103, 1000],
  ])('reads timestamps of %s', (_, options, ticks, seconds, nanoseconds) => {
    const body = Buffer.alloc(20);
    body.writeUInt32LE(Number(ticks), 8);
    const file = Buffer.concat([sectionBlock(), interfaceBlock(1, false, hex(options)), block(6, body)]);
    expect(readCapture('x', file).packets).toMatchObject([{ seconds, nanoseconds }]);
  });

  it('cuts a simple packet to the snap length, and takes a second section for a new one', () => {
    const packet = Buffer.from('0123456789');
    const file = Buffer.concat([
      sectionBlock(),
      interfaceBlock(1, false, Buffer.alloc(0), 4),
      simpleBlock(packet),
      sectionBlock(true),
      interfaceBlock(113, true),
      enhancedBlock(packet, 0, 0, true),
    ]);
    expect(readCapture('x', file)).toMatchObject({
      problem: undefined,
      packets: [
        { length: 10, linkType: 1 },
        { length: 10, linkType: 113 },
      ],
    });
    expect(bytesOf(file)).toEqual([packet.subarray(0, 4), packet]);
  });

  const packets = fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 20 });
  it('reads what was made by hand, in every form', () => {
    fc.assert(
      fc.property(packets, fc.boolean(), fc.boolean(), fc.boolean(), (list, blocks, bigEndian, nanoseconds) => {
        const file = blocks ? pcapngFile(list, { bigEndian }) : pcapFile(list, { bigEndian, nanoseconds });
        expect(readCapture('x', file).problem).toBeUndefined();
        expect(bytesOf(file)).toEqual(list.map((bytes) => Buffer.from(bytes)));
      }),
    );
  });

  it('reads what it writes, to the nanosecond', () => {
    const times = fc.tuple(fc.integer({ min: 0, max: 0x7fff_ffff }), fc.integer({ min: 0, max: 999_999_999 }));
    fc.assert(
      fc.property(packets, times, fc.constantFrom('pcap' as const, 'pcapng' as const), (list, [seconds, nanoseconds], format) => {
        const records = list.map((bytes) => captureRecord(format, bytes, seconds, nanoseconds));
        const capture = readCapture('x', Buffer.concat([captureHeader(format), ...records]));
        expect(capture).toMatchObject({ format, problem: undefined });
        expect(capture.packets.map(({ bytes, ...rest }) => ({ ...rest, bytes: Buffer.from(bytes) }))).toEqual(
          list.map((bytes) => ({ bytes: Buffer.from(bytes), length: bytes.length, seconds, nanoseconds, linkType: 1 })),
        );
      }),
    );
    expect(() => captureRecord('pcap', new Uint8Array(CAPTURE_PACKET_LIMIT + 1), 0, 0)).toThrow(/takes 262144/);
  });

  it('uses what is before the place where a file is cut, and says where that is', () => {
    const list = [Buffer.alloc(60, 1), Buffer.alloc(61, 2), Buffer.alloc(62, 3), Buffer.alloc(63, 4)];
    for (const file of [pcapFile(list), pcapngFile(list)]) {
      for (let length = 60; length < file.length; length++) {
        const capture = readCapture('cut.pcap', file.subarray(0, length));
        expect(capture.packets.length).toBeLessThan(4);
        expect(capture.packets.map(({ bytes }) => Buffer.from(bytes))).toEqual(list.slice(0, capture.packets.length));
        if (capture.problem !== undefined) expect(capture.problem).toMatch(/^cut\.pcap: at byte \d+: the file is cut in the middle/);
      }
    }
    const file = pcapFile(list);
    expect(readCapture('cut.pcap', file.subarray(0, -1)).problem).toContain(`at byte ${file.length - 16 - 63}:`);
  });

  it.each([
    ['nothing', '', /^x: the file is empty/],
    ['an ELF file', '7f454c46 00000000', /^x: neither pcap nor pcapng: it begins with 7f 45 4c 46/],
    ['two bytes', 'd4c3', /it begins with d4 c3/],
    ['half a header', 'd4c3b2a1 0200', /the file ends after 6 bytes, within its pcap header/],
    ['half a section', '0a0d0d0a 1c000000', /the file ends after 8 bytes, within its pcapng section header/],
    ['version 3', 'd4c3b2a1 0300 0000 00000000 00000000 ffff0000 01000000', /pcap version 3\.0; only 2\.x is known/],
    ['no byte order', '0a0d0d0a 1c000000 11223344', /without a byte order/],
  ])('refuses %s', (_, text, message) => {
    expect(() => readCapture('x', hex(text))).toThrow(message);
  });

  it.each([
    [
      'a record of 256 KiB and a byte',
      Buffer.concat([pcapFile([]), hex('00000000 00000000 01000400 01000400')]),
      /at byte 24: a packet of more/,
    ],
    ['a block of 8 bytes', Buffer.concat([sectionBlock(), hex('05000000 08000000 08000000')]), /at byte 28: a block whose length/],
    ['a block of 13 bytes', Buffer.concat([sectionBlock(), hex('05000000 0d000000 0d000000')]), /a block whose length cannot be/],
    [
      'a packet longer than its block',
      Buffer.concat([sectionBlock(), interfaceBlock(), block(6, hex('00000000 00000000 00000000 05000000 05000000 00000000'))]),
      /at byte 48: a block whose length/,
    ],
    ['a packet of no interface', Buffer.concat([sectionBlock(), enhancedBlock(Buffer.alloc(4))]), /an interface that is not described/],
    ['257 interfaces', Buffer.concat([sectionBlock(), ...Array.from({ length: 257 }, () => interfaceBlock())]), /more than 256 interfaces/],
  ])('stops at %s', (_, file, message) => {
    expect(readCapture('x', file).problem).toMatch(message);
  });

  it('answers any bytes with packets, a problem or a refusal', () => {
    const start = fc.constantFrom(pcapFile([]), pcapFile([], { bigEndian: true }), pcapngFile([]), Buffer.alloc(0));
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 400 }), (head, rest) => {
        try {
          const capture = readCapture('x', Buffer.concat([head, rest]));
          const bytes = capture.packets.reduce((sum, packet) => sum + packet.bytes.length, 0);
          expect(bytes).toBeLessThanOrEqual(rest.length);
        } catch (error) {
          expect(error).toBeInstanceOf(VirtioError);
        }
      }),
      { numRuns: 2000 },
    );
  });
});
