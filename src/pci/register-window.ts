/**
 * A part of what lies behind a BAR, with the checks that nobody may leave out: a capability's structure.
 * @module
 */
import { VirtioError } from '../system/error.ts';
import type { Registers, Width } from './pci-function.ts';

/** @throws RangeError unless the access lies inside of `bytes` and on its own width */
export function checkAccess(bytes: number, offset: number, width: Width): void {
  if (!Number.isInteger(offset) || offset < 0 || offset + width > bytes || offset % width !== 0) {
    throw new RangeError(`register 0x${offset.toString(16)} of ${String(width)} bytes: there are ${String(bytes)} bytes`);
  }
}

/**
 * @param what names the part in messages: `0000:00:10.0: the notify structure`
 * @throws VirtioError EPROTO when it does not lie inside of `registers`
 */
export function registerWindow(what: string, registers: Registers, offset: number, bytes: number): Registers {
  if (offset + bytes > registers.bytes) {
    throw new VirtioError(
      `${what} is said to be at 0x${offset.toString(16)} with 0x${bytes.toString(16)} bytes, and its BAR has 0x${registers.bytes.toString(16)}; the device cannot be used`,
      { code: 'EPROTO' },
    );
  }
  const { direct } = registers;
  return {
    bytes,
    address: registers.address === undefined ? undefined : registers.address + offset,
    read: async (at, width) => {
      checkAccess(bytes, at, width);
      return registers.read(offset + at, width);
    },
    write: async (at, width, value) => {
      checkAccess(bytes, at, width);
      await registers.write(offset + at, width, value);
    },
    direct:
      direct?.kind === 'mapped'
        ? { kind: 'mapped', arenaOffset: direct.arenaOffset + offset }
        : direct?.kind === 'file'
          ? { kind: 'file', fd: direct.fd, position: direct.position + offset }
          : undefined,
  };
}
