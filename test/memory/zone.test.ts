import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { Zone } from '../../src/memory/zone.ts';
import { VirtioError } from '../../src/system/error.ts';

describe('a zone', () => {
  it('aligns addresses, not offsets', () => {
    const zone = new Zone('a zone', 100, 10_000, 0x7f00_0000_0010);
    expect((0x7f00_0000_0010 + zone.allocate(10, 64, 'x')) % 64).toBe(0);
    expect((0x7f00_0000_0010 + zone.allocate(10, 4096, 'x')) % 4096).toBe(0);
  });

  it('says what did not fit, how much was wanted and how much is left', () => {
    const zone = new Zone('the window', 0, 1000);
    zone.allocate(600, 1, 'a');
    expect(() => zone.allocate(401, 1, 'a ring')).toThrow(VirtioError);
    expect(() => zone.allocate(401, 1, 'a ring')).toThrow('no room for a ring: 401 bytes wanted, 400 of 1000 left in the window');
  });

  it('refuses to take back what it did not give, and the same twice', () => {
    const zone = new Zone('a zone', 0, 1000);
    const offset = zone.allocate(100, 1, 'a');
    expect(() => zone.release(offset + 1)).toThrow(/offset 1 is not allocated in a zone/);
    zone.release(offset);
    expect(() => zone.release(offset)).toThrow(RangeError);
  });

  it('of no bytes has none', () => {
    expect(new Zone('empty', 10, 10).freeBytes).toBe(0);
    expect(() => new Zone('empty', 10, 5).allocate(1, 1, 'a')).toThrow(/0 of -5 left|0 of/);
  });

  it('never gives a byte twice, and has all of them when everything has come back', () => {
    const step = fc.oneof(
      fc.record({ bytes: fc.integer({ min: 1, max: 3000 }), align: fc.constantFrom(1, 2, 64, 4096) }),
      fc.record({ release: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.nat(100_000), fc.array(step, { maxLength: 60 }), (base, steps) => {
        const zone = new Zone('a zone', 1000, 21_000, base);
        const held: { readonly start: number; readonly end: number }[] = [];
        for (const one of steps) {
          if ('release' in one) {
            const [gone] = held.splice(one.release % Math.max(1, held.length), 1);
            if (gone !== undefined) zone.release(gone.start);
            continue;
          }
          let start: number;
          try {
            start = zone.allocate(one.bytes, one.align, 'a test');
          } catch {
            continue;
          }
          const end = start + one.bytes;
          expect((base + start) % one.align).toBe(0);
          expect(start >= 1000 && end <= 21_000).toBe(true);
          expect(held.every((other) => end <= other.start || other.end <= start)).toBe(true);
          held.push({ start, end });
          expect(zone.freeBytes).toBe(20_000 - held.reduce((sum, range) => sum + range.end - range.start, 0));
        }
        for (const { start } of held) zone.release(start);
        expect(zone.freeBytes).toBe(20_000);
        expect(zone.allocate(20_000, 1, 'everything')).toBe(1000);
      }),
      { numRuns: 200 },
    );
  });
});
