/** Bytes as DPDK 22.11's virtio_user and net_vhost exchanged them. */
import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import {
  decodeMemoryTable,
  decodeSingleRegion,
  decodeVringAddress,
  encodeMemoryTable,
  encodeMessage,
  encodeSingleRegion,
  encodeU64,
  encodeVringAddress,
  encodeVringState,
  FLAG_NEED_REPLY,
  FLAG_REPLY,
  headerIsSupported,
  PROTOCOL_F,
  readHeader,
  REQUEST,
  requestName,
} from '../../src/backend/vhost-user/messages.ts';

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

const WIRE: readonly (readonly [name: string, bytes: Buffer, wire: string])[] = [
  ['SET_OWNER without a payload', encodeMessage(REQUEST.SET_OWNER, 0, new Uint8Array(0)), '03000000 01000000 00000000'],
  [
    'the answer to GET_FEATURES, 0xd7c66e7cb',
    encodeMessage(REQUEST.GET_FEATURES, FLAG_REPLY, encodeU64(0xd7c66e7cbn)),
    '01000000 05000000 08000000 cbe7667c0d000000',
  ],
  [
    'SET_PROTOCOL_FEATURES 0x10009: MQ, REPLY_ACK, STATUS',
    encodeMessage(REQUEST.SET_PROTOCOL_FEATURES, 0, encodeU64(BigInt(PROTOCOL_F.MQ | PROTOCOL_F.REPLY_ACK | PROTOCOL_F.STATUS))),
    '10000000 01000000 08000000 0900010000000000',
  ],
  [
    'SET_STATUS 0xb, to be acknowledged',
    encodeMessage(REQUEST.SET_STATUS, FLAG_NEED_REPLY, encodeU64(0xbn)),
    '27000000 09000000 08000000 0b00000000000000',
  ],
  [
    'SET_MEM_TABLE of one region of 64 MiB',
    encodeMessage(
      REQUEST.SET_MEM_TABLE,
      FLAG_NEED_REPLY,
      encodeMemoryTable([{ guestAddress: 0x1180200000n, size: 0x4000000n, userAddress: 0x1180200000n, fileOffset: 0n }]),
    ),
    '05000000 09000000 28000000 01000000 00000000 0000208011000000 0000000400000000 0000208011000000 0000000000000000',
  ],
  [
    'SET_VRING_NUM of ring 1, 256',
    encodeMessage(REQUEST.SET_VRING_NUM, 0, encodeVringState(1, 256)),
    '08000000 01000000 08000000 01000000 00010000',
  ],
  [
    'SET_VRING_ADDR of ring 0: descriptors, used, available, log',
    encodeMessage(
      REQUEST.SET_VRING_ADDR,
      0,
      encodeVringAddress({ index: 0, flags: 0, descriptors: 0x11841a4000n, used: 0x11841a6000n, available: 0x11841a5000n }),
    ),
    '09000000 01000000 28000000 00000000 00000000 00401a8411000000 00601a8411000000 00501a8411000000 0000000000000000',
  ],
];

describe('vhost-user messages', () => {
  it.each(WIRE)('are written as DPDK writes them: %s', (_, bytes, wire) => {
    expect(bytes).toEqual(hex(wire));
  });

  it.each([
    ['a request', '01000000 01000000 00000000', { request: 1, reply: false, needReply: false, version: 1, size: 0 }],
    ['an answer', '28000000 05000000 08000000', { request: 40, reply: true, needReply: false, version: 1, size: 8 }],
    ['a request to be acknowledged', '05000000 09000000 28000000', { request: 5, reply: false, needReply: true, version: 1, size: 40 }],
    [
      'the largest numbers',
      'ffffffff f9ffffff ffffffff',
      { request: 0xffff_ffff, reply: false, needReply: true, version: 1, size: 0xffff_ffff },
    ],
  ])('have a header that is read: %s', (_, wire, header) => {
    expect(readHeader(hex(wire))).toEqual(header);
  });

  it.each([
    [0, false],
    [1, true],
    [2, false],
    [3, false],
  ])('of version %i are supported: %s', (version, supported) => {
    expect(headerIsSupported(readHeader(hex(`01000000 0${version}000000 00000000`)))).toBe(supported);
  });

  it('have the numbers of the text (vhost-user, "Front-end message types")', () => {
    expect(Object.values(REQUEST)).toEqual([...Array.from({ length: 25 }, (_, at) => at + 1), 34, 36, 37, 38, 39, 40]);
    expect([requestName(5), requestName(40), requestName(99)]).toEqual(['SET_MEM_TABLE', 'GET_STATUS', 'request 99']);
  });

  it.each([
    ['no bytes', ''],
    ['less than the count', '01000000 000000'],
    ['fewer regions than announced', `02000000 00000000 ${'00'.repeat(32)}`],
    ['a region cut short', `01000000 00000000 ${'00'.repeat(31)}`],
    ['nine regions', `09000000 00000000 ${'00'.repeat(9 * 32)}`],
    ['0xffffffff regions', `ffffffff 00000000 ${'00'.repeat(32)}`],
  ])('refuses a memory table of %s', (_, payload) => {
    expect(decodeMemoryTable(hex(payload))).toBeUndefined();
  });

  it('refuses a single region cut short', () => {
    expect(decodeSingleRegion(Buffer.alloc(39))).toBeUndefined();
    expect(decodeSingleRegion(Buffer.alloc(40))).toEqual({ guestAddress: 0n, size: 0n, userAddress: 0n, fileOffset: 0n });
  });

  it('come back as they were', () => {
    const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
    const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
    const region = fc.record({ guestAddress: u64, size: u64, userAddress: u64, fileOffset: u64 });
    fc.assert(
      fc.property(fc.array(region, { maxLength: 8 }), (regions) => {
        expect(decodeMemoryTable(encodeMemoryTable(regions))).toEqual(regions);
      }),
    );
    fc.assert(
      fc.property(region, (one) => {
        expect(decodeSingleRegion(encodeSingleRegion(one))).toEqual(one);
      }),
    );
    fc.assert(
      fc.property(fc.record({ index: u32, flags: u32, descriptors: u64, used: u64, available: u64 }), (address) => {
        expect(decodeVringAddress(encodeVringAddress(address))).toEqual(address);
      }),
    );
  });

  it('never throws at any payload of any length', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        decodeMemoryTable(Buffer.from(bytes));
        decodeSingleRegion(Buffer.from(bytes));
      }),
    );
  });
});
