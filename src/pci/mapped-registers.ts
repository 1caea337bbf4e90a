/**
 * Registers of a BAR that is mapped into the arena's window. Device memory takes accesses of the register's own width only: those of
 * a typed array of that width; a DataView reads byte by byte until it is compiled. Stores are plain ones: an atomic one is an exchange
 * on x86-64, which reads the register as well.
 * @module
 */
import type { Arena } from '../memory/arena.ts';
import type { Registers, Width } from './pci-function.ts';
import { checkAccess } from './register-window.ts';

/** A fault in the window puts ordinary memory in place of 2 MiB: a BAR has such a piece to itself. */
const PIECE = 2 * 1024 * 1024;

export interface MappedBar {
  readonly registers: Registers;
  /** Takes the mapping away. */
  unmap(): void;
}

/**
 * @param what names the device and the BAR in messages
 * @param fd of the device, or of the BAR
 * @param position of the BAR in the file
 * @throws VirtioError ENOMEM when the window has no room (--peer-mem), or what mmap says
 */
export function mapBar(arena: Arena, what: string, fd: number, position: number, bytes: number): MappedBar {
  const room = Math.ceil(bytes / PIECE) * PIECE;
  const start = arena.window.allocate(room, PIECE, what);
  const release = (): void => {
    arena.protectWindow(start, room);
    arena.window.release(start);
  };
  try {
    arena.mapPeerFile(what, start, bytes, fd, position);
  } catch (error) {
    release();
    throw error;
  }
  const { u8, u16, u32 } = arena.views;
  const views = { 1: u8, 2: u16, 4: u32 } as const satisfies Record<Width, unknown>;
  const registers: Registers = {
    bytes,
    read: async (offset, width) => {
      checkAccess(bytes, offset, width);
      return Promise.resolve(Atomics.load(views[width], (start + offset) / width));
    },
    write: async (offset, width, value) => {
      checkAccess(bytes, offset, width);
      views[width][(start + offset) / width] = value;
      return Promise.resolve();
    },
    direct: { kind: 'mapped', arenaOffset: start },
  };
  return { registers, unmap: release };
}
