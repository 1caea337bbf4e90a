/**
 * Ethernet frames with TCP or UDP over IPv4 or IPv6, made field by field: what the kernels' results are compared with.
 * @module
 */

/** One's complement sum of 16-bit words in network order (RFC 1071), a last single byte as a high one. */
export function sum16(...parts: readonly Uint8Array[]): number {
  const bytes = Buffer.concat(parts);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

export const hex = (text: string): Buffer => Buffer.from(text.replaceAll(/[\s:]/g, ''), 'hex');

export interface FrameFields {
  /** Tag control information of each VLAN tag, the outermost first. */
  readonly vlans?: readonly number[];
  readonly version: 4 | 6;
  readonly protocol: 'tcp' | 'udp';
  /** IPv4 options, whole words. */
  readonly ipOptions?: Uint8Array;
  /** 8-byte destination-options headers of IPv6. */
  readonly extensions?: number;
  readonly identification?: number;
  readonly tcpOptions?: Uint8Array;
  readonly sequence?: number;
  /** Byte 13 of the TCP header. */
  readonly flags?: number;
  readonly payload: Uint8Array;
  /** What the transport checksum's field holds: the checksum (default), the pseudo header's sum, or this. */
  readonly checksum?: 'full' | 'partial' | number;
}

export interface Frame {
  readonly bytes: Buffer;
  readonly ip: number;
  readonly transport: number;
  /** Offset of the checksum from the transport header. */
  readonly field: number;
  /** First byte of the payload. */
  readonly payload: number;
}

const ADDRESSES = '020000000002 020000000001';

function transportHeader({ protocol, tcpOptions = Buffer.alloc(0), sequence = 1, flags = 0x10, payload }: FrameFields): Buffer {
  if (protocol === 'udp') {
    const header = hex('1234 5678 0000 0000');
    header.writeUInt16BE(8 + payload.length, 4);
    return header;
  }
  const header = Buffer.concat([hex('c000 0050 00000000 01020304 5000 ffff 0000 0007'), tcpOptions]);
  header.writeUInt32BE(sequence, 4);
  header[12] = (header.length / 4) << 4;
  header[13] = flags;
  return header;
}

/** A frame with everything right in it, but for what `checksum` asks. */
export function buildFrame(fields: FrameFields): Frame {
  const { vlans = [], version, protocol, ipOptions = Buffer.alloc(0), extensions = 0, identification = 0x1234, payload } = fields;
  const { checksum = 'full' } = fields;
  const number = protocol === 'tcp' ? 6 : 17;
  const tags = vlans.map((tag) => `8100 ${tag.toString(16).padStart(4, '0')}`).join('');
  const ethernet = hex(`${ADDRESSES} ${tags} ${version === 4 ? '0800' : '86dd'}`);
  const transport = transportHeader(fields);
  const bytes = transport.length + payload.length;
  let ip: Buffer;
  if (version === 4) {
    ip = Buffer.concat([hex('4500 0000 0000 4000 4000 0000 0a000001 0a000002'), ipOptions]);
    ip[0] = 0x40 | (ip.length / 4);
    ip.writeUInt16BE(ip.length + bytes, 2);
    ip.writeUInt16BE(identification, 4);
    ip[9] = number;
    ip.writeUInt16BE(~sum16(ip) & 0xffff, 10);
  } else {
    const options = Array.from({ length: extensions }, (_, index) =>
      hex(`${index + 1 === extensions ? number.toString(16).padStart(2, '0') : '3c'} 00 0104 00000000`),
    );
    ip = Buffer.concat([hex('60000000 0000 0040 20010db8000000000000000000000001 20010db80000000000000000000000fe'), ...options]);
    ip.writeUInt16BE(8 * extensions + bytes, 4);
    ip[6] = extensions === 0 ? number : 60;
  }
  const pseudo = Buffer.alloc(8);
  pseudo.writeUInt32BE(bytes, 0);
  pseudo[7] = number;
  const addresses = version === 4 ? ip.subarray(12, 20) : ip.subarray(8, 40);
  const field = protocol === 'tcp' ? 16 : 6;
  const sum = sum16(addresses, pseudo, transport, payload);
  const full = (~sum & 0xffff) === 0 && protocol === 'udp' ? 0xffff : ~sum & 0xffff;
  transport.writeUInt16BE(checksum === 'full' ? full : checksum === 'partial' ? sum16(addresses, pseudo) : checksum, field);
  const start = ethernet.length + ip.length;
  return {
    bytes: Buffer.concat([ethernet, ip, transport, payload]),
    ip: ethernet.length,
    transport: start,
    field,
    payload: start + transport.length,
  };
}
