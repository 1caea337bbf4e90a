/**
 * Access to a network card's configuration space field by field, each at its own width (virtio 1.2, 4.1.3.1 and 5.1.4).
 * @module
 */
import type { Registers, Width } from './pci-function.ts';

/** First byte and width of the fields that are not single bytes: status, max_virtqueue_pairs, mtu, speed, and those of RSS. */
const FIELDS: ReadonlyMap<number, Width> = new Map<number, Width>([
  [6, 2],
  [8, 2],
  [10, 2],
  [12, 4],
  [18, 2],
  [20, 4],
  [24, 4],
]);

/** The accesses that cover a range: whole fields where they lie inside of it, single bytes elsewhere. */
function* accesses(offset: number, bytes: number): Generator<readonly [number, Width]> {
  for (let at = offset; at < offset + bytes;) {
    const field = FIELDS.get(at) ?? 1;
    const width = at + field <= offset + bytes ? field : 1;
    yield [at, width];
    at += width;
  }
}

/** @param base where the configuration begins in `registers` */
export async function readConfiguration(registers: Registers, base: number, offset: number, bytes: number): Promise<Buffer> {
  const content = Buffer.alloc(bytes);
  for (const [at, width] of accesses(offset, bytes)) content.writeUIntLE(await registers.read(base + at, width), at - offset, width);
  return content;
}

/** @param base where the configuration begins in `registers` */
export async function writeConfiguration(registers: Registers, base: number, offset: number, content: Uint8Array): Promise<void> {
  const source = Buffer.from(content);
  for (const [at, width] of accesses(offset, content.length)) {
    await registers.write(base + at, width, source.readUIntLE(at - offset, width));
  }
}
