/**
 * Registers that are reached by pread and pwrite: configuration space, BARs of I/O ports, and whatever cannot be mapped.
 * @module
 */
import type { DeviceFiles } from '../system/device-files.ts';
import { VirtioError } from '../system/error.ts';
import { errnoName, errnoText } from '../system/ffi.ts';
import type { Registers, Width } from './pci-function.ts';
import { checkAccess } from './register-window.ts';

export interface FilePart {
  /** Names the device and the part in messages: `0000:00:10.0: BAR 0`. */
  readonly what: string;
  readonly fd: number;
  /** Of its first byte in the file. */
  readonly position: number;
  readonly bytes: number;
}

export function fileRegisters(system: Pick<DeviceFiles, 'readAt' | 'writeAt'>, { what, fd, position, bytes }: FilePart): Registers {
  const access = (call: 'readAt' | 'writeAt', content: Uint8Array, offset: number): void => {
    const { value, errno } = system[call](fd, content, position + offset);
    if (value === content.length) return;
    const code = value < 0 ? errnoName(errno) : 'EIO';
    throw new VirtioError(
      `${what}: register 0x${offset.toString(16)} cannot be ${call === 'readAt' ? 'read' : 'written'}: ${errnoText(code)}; the device may be gone`,
      { code, syscall: call === 'readAt' ? 'pread' : 'pwrite', errno: value < 0 ? errno : undefined },
    );
  };
  // a rejection, not an exception: what is asked is asked asynchronously
  return {
    bytes,
    read: async (offset, width: Width) => {
      checkAccess(bytes, offset, width);
      const content = Buffer.alloc(width);
      access('readAt', content, offset);
      return Promise.resolve(content.readUIntLE(0, width));
    },
    write: async (offset, width, value) => {
      checkAccess(bytes, offset, width);
      const content = Buffer.alloc(width);
      content.writeUIntLE(value % 2 ** (8 * width), 0, width);
      access('writeAt', content, offset);
      return Promise.resolve();
    },
    direct: { kind: 'file', fd, position },
  };
}
