/**
 * Physical addresses of this process's pages, as root (Documentation/admin-guide/mm/pagemap.rst of Linux).
 * @module
 */
import { closeSync, openSync, readSync } from 'node:fs';
import { VirtioError } from './error.ts';

const PAGEMAP = '/proc/self/pagemap';
const SMALL_PAGE = 4096;
const ENTRY_BYTES = 8;
const PRESENT = 1n << 63n;
const FRAME_MASK = (1n << 55n) - 1n;

/**
 * @param addresses of pages that are mapped and stay where they are (huge pages)
 * @returns their physical addresses
 * @throws VirtioError EPERM where the kernel does not tell, EFAULT for a page that is not there
 */
export function physicalAddressesOf(addresses: readonly number[]): bigint[] {
  const fd = openSync(PAGEMAP, 'r');
  try {
    return addresses.map((address) => {
      const entry = Buffer.alloc(ENTRY_BYTES);
      const read = readSync(fd, entry, 0, ENTRY_BYTES, Math.floor(address / SMALL_PAGE) * ENTRY_BYTES);
      const value = read === ENTRY_BYTES ? entry.readBigUInt64LE() : 0n;
      if ((value & PRESENT) === 0n) throw new VirtioError(`page at 0x${address.toString(16)}: not in memory`, { code: 'EFAULT' });
      const frame = value & FRAME_MASK;
      // without CAP_SYS_ADMIN every frame reads as 0
      if (frame === 0n) {
        throw new VirtioError(`${PAGEMAP} hides physical addresses from this process: run as root (CAP_SYS_ADMIN)`, { code: 'EPERM' });
      }
      return frame * BigInt(SMALL_PAGE) + BigInt(address % SMALL_PAGE);
    });
  } finally {
    closeSync(fd);
  }
}
