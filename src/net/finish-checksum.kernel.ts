/**
 * Finishing a partial checksum: the sender left the sum of the pseudo header in the field, for a network card to add the rest
 * (Linux's CHECKSUM_PARTIAL). For frames of which nobody says where the field is; of mbufs the metadata does (finish-packet.kernel.ts).
 * @module
 */
import { ldu16, stu16 } from '../memory/access.ts';
import { addSum } from './checksum.kernel.ts';
import {
  checksumField,
  ipEnd,
  ipProtocol,
  isFragment,
  parseHeaders,
  pseudoHeaderSum,
  transportChecksum,
  transportStart,
} from './headers.kernel.ts';

/**
 * Finishes the TCP or UDP checksum of the Ethernet frame at `packet`, VLAN tags and IPv6 extension headers aside.
 * @returns 1, or 0 when there is no partial checksum where it ought to be
 */
export function finishChecksum(packet: u32, length: u32): u32 {
  if (parseHeaders(packet, 0, length) === 0 || ipEnd > length || isFragment !== 0) return 0;
  const field: u32 = checksumField(ipProtocol);
  if (field === 0 || transportStart + field + 2 > ipEnd) return 0;
  const bytes: u32 = ipEnd - transportStart;
  const at: u32 = packet + transportStart;
  // anything else is not the sum of this pseudo header: a tunnel's inner packet, or no partial checksum at all
  if (ldu16(at + field) !== pseudoHeaderSum(packet, bytes)) return 0;
  stu16(at + field, transportChecksum(addSum(at, bytes, 0)));
  return 1;
}
