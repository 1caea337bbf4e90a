/**
 * Archives that Linux unpacks as its first root file system: cpio, format "newc" (Documentation/driver-api/early-userspace/buffer-format).
 * @module
 */

const DIRECTORY = 0o040000;
const REGULAR = 0o100000;
const LINK = 0o120000;

export class CpioArchive {
  readonly #parts: Buffer[] = [];
  readonly #names = new Set<string>();

  /** Adds a folder, and those that it is in, once. */
  directory(name: string, permissions = 0o755): this {
    if (name === '' || this.#names.has(name)) return this;
    this.#parentOf(name);
    this.#entry(name, DIRECTORY | permissions, Buffer.alloc(0));
    return this;
  }

  file(name: string, contents: string | Uint8Array, permissions = 0o644): this {
    this.#parentOf(name);
    this.#entry(name, REGULAR | permissions, Buffer.from(contents));
    return this;
  }

  link(name: string, target: string): this {
    this.#parentOf(name);
    this.#entry(name, LINK | 0o777, Buffer.from(target));
    return this;
  }

  /** The whole archive; nothing is added afterwards. */
  finish(): Buffer {
    this.#entry('TRAILER!!!', 0, Buffer.alloc(0));
    return Buffer.concat(this.#parts);
  }

  #parentOf(name: string): void {
    const slash = name.lastIndexOf('/');
    if (slash > 0) this.directory(name.slice(0, slash));
  }

  #entry(name: string, mode: number, contents: Buffer): void {
    this.#names.add(name);
    // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    const fields = [this.#names.size, mode, 0, 0, 1, 0, contents.length, 0, 0, 0, 0, Buffer.byteLength(name) + 1, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`;
    this.#parts.push(padded(Buffer.from(header)), padded(contents));
  }
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
