import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { nearestName, parseDevargs, readDevargs } from '../../src/port/devargs.ts';
import { VirtioError } from '../../src/system/error.ts';

const keys = ['path', 'mac', 'queues', 'packed_vq'];
const read = (text: string) => readDevargs(parseDevargs(text), keys);
const queues = { min: 1, max: 8, default: 1 };

describe('parseDevargs', () => {
  it('keeps the order, the text and keys that stand alone', () => {
    expect(parseDevargs('virtio_user0,path=/tmp/a=b.sock,server,queues=2')).toEqual({
      name: 'virtio_user0',
      text: 'path=/tmp/a=b.sock,server,queues=2',
      args: [
        { key: 'path', value: '/tmp/a=b.sock' },
        { key: 'server', value: undefined },
        { key: 'queues', value: '2' },
      ],
    });
    expect(parseDevargs('net_null0')).toEqual({ name: 'net_null0', text: '', args: [] });
  });

  it('leaves commas in brackets to the value', () => {
    expect(parseDevargs('net_x0,list=[0,1],size=2').args).toEqual([
      { key: 'list', value: '[0,1]' },
      { key: 'size', value: '2' },
    ]);
  });

  it.each([
    ['', 'name before the first comma is empty'],
    [',a=1', 'name before the first comma is empty'],
    ['net null0', 'letters, digits'],
    ['net_null0,,a=1', 'expected key=value'],
    ['net_null0,', ''],
    ['net_null0,=1', 'expected key=value'],
    ['net_null0,a=1,a=2', 'a is given twice'],
    ['net_null0,a=[1', 'without its ]'],
    ['net_null0,a=1]', 'without its ['],
  ])('%j', (text, message) => {
    if (message === '') expect(parseDevargs(text).args).toEqual([]);
    else expect(() => parseDevargs(text)).toThrow(message);
  });

  it('throws nothing but VirtioError EINVAL', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom('a', '0', ',', '=', '[', ']', '_', ' ') }), (text) => {
        try {
          const { args } = parseDevargs(text);
          expect(new Set(args.map((argument) => argument.key)).size).toBe(args.length);
        } catch (error) {
          expect(error).toBeInstanceOf(VirtioError);
          expect(error).toMatchObject({ code: 'EINVAL' });
        }
      }),
    );
  });
});

describe('readDevargs', () => {
  it('reads values of every type', () => {
    const reader = read('virtio_user0,path=/tmp/s,mac=02:00:00:00:00:01,queues=0x4,packed_vq=1');
    expect(reader.required('path')).toBe('/tmp/s');
    expect(reader.mac('mac')).toEqual(Uint8Array.of(2, 0, 0, 0, 0, 1));
    expect(reader.unsigned('queues', queues)).toBe(4);
    expect(reader.flag('packed_vq', false)).toBe(true);
    expect(reader.has('path')).toBe(true);
  });

  it('has defaults', () => {
    const reader = read('virtio_user0');
    expect(reader.string('path')).toBeUndefined();
    expect(reader.mac('mac')).toBeUndefined();
    expect(reader.unsigned('queues', queues)).toBe(1);
    expect(reader.flag('packed_vq', true)).toBe(true);
    expect(reader.choice('path', ['a', 'b'], 'b')).toBe('b');
    expect(() => reader.required('path')).toThrow('virtio_user0: path is mandatory');
  });

  it('takes a flag that stands alone for 1', () => {
    expect(read('virtio_user0,packed_vq').flag('packed_vq', false)).toBe(true);
  });

  it.each(['0', '9', '-1', '', 'x', '0x', '1.5', '99999999999999999999'])('names device, key, value and range: queues=%s', (value) => {
    expect(() => read(`virtio_user0,queues=${value}`).unsigned('queues', queues)).toThrow(
      `virtio_user0: queues=${value}: expected a number from 1 to 8`,
    );
  });

  it('refuses other wrong values', () => {
    expect(() => read('a0,packed_vq=abc').flag('packed_vq', false)).toThrow('a0: packed_vq=abc: expected 0 or 1');
    expect(() => read('a0,mac=zz').mac('mac')).toThrow('a0: mac=zz: expected six bytes');
    expect(() => read('a0,mac=01:00:00:00:00:01').mac('mac')).toThrow('unicast');
    expect(() => read('a0,mac=00:00:00:00:00:00').mac('mac')).toThrow('unicast');
    expect(() => read('a0,path=').string('path')).toThrow('a0: path=: expected a text');
    expect(() => read('a0,path').string('path')).toThrow('a0: path=: expected a text');
    expect(() => read('a0,path=c').choice('path', ['a', 'b'], 'a')).toThrow('a0: path=c: expected a, b');
  });

  it('lists the known keys, and the nearest, for an unknown one', () => {
    expect(() => read('virtio_user0,queue=2')).toThrow(
      'virtio_user0: unknown key queue; did you mean queues? known keys: path, mac, queues, packed_vq',
    );
    expect(() => read('virtio_user0,foo=2')).toThrow('virtio_user0: unknown key foo; known keys: path');
    expect(() => readDevargs(parseDevargs('x0,a=1'), [])).toThrow('the device takes no arguments');
  });
});

describe('nearestName', () => {
  it('answers what is near, and nothing else', () => {
    expect(nearestName('bursst', ['burst', 'rxq'])).toBe('burst');
    expect(nearestName('xyz', ['burst', 'rxq'])).toBeUndefined();
    expect(nearestName('', ['burst'])).toBeUndefined();
    expect(nearestName('a'.repeat(100_000), ['burst'])).toBeUndefined();
  });
});
