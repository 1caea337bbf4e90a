/**
 * Writes and reads capture files of the classic kind (pcap 2.4, microseconds, Ethernet), the ones that DPDK's net_pcap speaks.
 * @module
 */
import { readFileSync, writeFileSync } from 'node:fs';

const MAGIC = 0xa1b2c3d4;
/** As MAGIC, with nanoseconds: what DPDK writes. */
const MAGIC_NANOSECONDS = 0xa1b23c4d;
const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const LINKTYPE_ETHERNET = 1;

export function writePcap(file: string, packets: readonly Uint8Array[]): void {
  const header = Buffer.alloc(FILE_HEADER);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(262_144, 16);
  header.writeUInt32LE(LINKTYPE_ETHERNET, 20);
  const parts: Uint8Array[] = [header];
  for (const [index, packet] of packets.entries()) {
    const record = Buffer.alloc(RECORD_HEADER);
    record.writeUInt32LE(1, 0);
    record.writeUInt32LE(index, 4);
    record.writeUInt32LE(packet.length, 8);
    record.writeUInt32LE(packet.length, 12);
    parts.push(record, packet);
  }
  writeFileSync(file, Buffer.concat(parts));
}

/** @throws Error when the file is no capture or is cut short */
export function readPcap(file: string): readonly Buffer[] {
  const bytes = readFileSync(file);
  if (bytes.length < FILE_HEADER || ![MAGIC, MAGIC_NANOSECONDS].includes(bytes.readUInt32LE(0)))
    throw new Error(`${file}: no capture file of ${bytes.length} bytes`);
  const packets: Buffer[] = [];
  let offset = FILE_HEADER;
  while (offset < bytes.length) {
    const captured = bytes.readUInt32LE(offset + 8);
    const packet = bytes.subarray(offset + RECORD_HEADER, offset + RECORD_HEADER + captured);
    if (packet.length !== captured || captured !== bytes.readUInt32LE(offset + 12)) throw new Error(`${file}: cut short at ${offset}`);
    packets.push(packet);
    offset += RECORD_HEADER + captured;
  }
  return packets;
}
