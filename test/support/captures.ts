/**
 * Capture files made by hand, field by field, in either byte order: nothing of the code under test.
 * @module
 */
export interface CaptureShape {
  readonly bigEndian?: boolean;
  readonly nanoseconds?: boolean;
  readonly linkType?: number;
}

function words(bigEndian: boolean, ...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  for (const [index, value] of values.entries()) {
    if (bigEndian) bytes.writeUInt32BE(value, 4 * index);
    else bytes.writeUInt32LE(value, 4 * index);
  }
  return bytes;
}

function halves(bigEndian: boolean, ...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  for (const [index, value] of values.entries()) {
    if (bigEndian) bytes.writeUInt16BE(value, 2 * index);
    else bytes.writeUInt16LE(value, 2 * index);
  }
  return bytes;
}

/** A pcap file; packet number N has the time 1000 + N seconds and N units. */
export function pcapFile(packets: readonly Uint8Array[], shape: CaptureShape = {}): Buffer {
  const { bigEndian = false, nanoseconds = false, linkType = 1 } = shape;
  return Buffer.concat([
    words(bigEndian, nanoseconds ? 0xa1b23c4d : 0xa1b2c3d4),
    halves(bigEndian, 2, 4),
    words(bigEndian, 0, 0, 65_535, linkType),
    ...packets.flatMap((packet, index) => [words(bigEndian, 1000 + index, index, packet.length, packet.length), packet]),
  ]);
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}

/** Any block: type, length, body, length. */
export function block(type: number, body: Uint8Array, bigEndian = false): Buffer {
  const inside = padded(body);
  const total = 12 + inside.length;
  return Buffer.concat([words(bigEndian, type, total), inside, words(bigEndian, total)]);
}

export function sectionBlock(bigEndian = false): Buffer {
  return block(0x0a0d0d0a, Buffer.concat([words(bigEndian, 0x1a2b3c4d), halves(bigEndian, 1, 0), Buffer.alloc(8, 0xff)]), bigEndian);
}

/** @param options bytes of options, whole words */
export function interfaceBlock(linkType = 1, bigEndian = false, options = Buffer.alloc(0), snapLength = 0): Buffer {
  return block(1, Buffer.concat([halves(bigEndian, linkType, 0), words(bigEndian, snapLength), options]), bigEndian);
}

export function enhancedBlock(packet: Uint8Array, index = 0, from = 0, bigEndian = false): Buffer {
  return block(6, Buffer.concat([words(bigEndian, from, 0, index, packet.length, packet.length), padded(packet)]), bigEndian);
}

export function obsoleteBlock(packet: Uint8Array, from = 0, bigEndian = false): Buffer {
  return block(
    2,
    Buffer.concat([halves(bigEndian, from, 0), words(bigEndian, 0, 7, packet.length, packet.length), padded(packet)]),
    bigEndian,
  );
}

export function simpleBlock(packet: Uint8Array, bigEndian = false): Buffer {
  return block(3, Buffer.concat([words(bigEndian, packet.length), padded(packet)]), bigEndian);
}

/** A pcapng file of one section, its packets in blocks of all three kinds in turn, with a block in between that holds none. */
export function pcapngFile(packets: readonly Uint8Array[], { bigEndian = false, linkType = 1 }: CaptureShape = {}): Buffer {
  return Buffer.concat([
    sectionBlock(bigEndian),
    interfaceBlock(linkType, bigEndian),
    ...packets.flatMap((packet, index) => {
      if (index % 4 === 1) return [obsoleteBlock(packet, 0, bigEndian)];
      if (index % 4 === 2) return [block(0xbad, Buffer.alloc(37), bigEndian), simpleBlock(packet, bigEndian)];
      return [enhancedBlock(packet, index, 0, bigEndian)];
    }),
  ]);
}
