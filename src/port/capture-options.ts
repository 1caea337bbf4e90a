/**
 * Captures as they are written on a command line: `port=0,file=x.pcapng,rx,snaplen=96`.
 * @module
 */
import { VirtioError } from '../system/error.ts';
import { CAPTURE_PACKET_LIMIT } from '../net/pcap-format.ts';
import { captureDirections, type CaptureDirection, type CaptureOptions } from './capture.ts';
import { parseDevargs, readDevargs } from './devargs.ts';

const OPTION_KEYS = ['queue', 'direction', 'snaplen', 'count', 'size', 'buffer', ...captureDirections];
const MOST = Number.MAX_SAFE_INTEGER;

/** A capture of a port by its number. */
export interface CaptureWish {
  readonly port: number;
  readonly options: CaptureOptions;
}

/** What a text of keys says, `port` and `file` apart. @throws VirtioError EINVAL that names the key */
function read(text: string, keys: readonly string[]): { args: ReturnType<typeof readDevargs>; options: Omit<CaptureOptions, 'file'> } {
  const args = readDevargs(parseDevargs(text === '' ? 'capture' : `capture,${text}`), keys);
  const number = (key: string, min: number, max: number): number | undefined =>
    args.has(key) ? args.unsigned(key, { min, max, default: min }) : undefined;
  const words = captureDirections.filter((word) => args.has(word));
  const given: readonly CaptureDirection[] = args.has('direction')
    ? [...words, args.choice('direction', captureDirections, 'both')]
    : words;
  if (given.length > 1)
    throw new VirtioError(`capture: ${given.join(' and ')}: give one of ${captureDirections.join(', ')}`, { code: 'EINVAL' });
  return {
    args,
    options: {
      direction: given[0],
      queue: number('queue', 0, 65535),
      snaplen: number('snaplen', 1, CAPTURE_PACKET_LIMIT),
      count: number('count', 1, MOST),
      size: number('size', 1, MOST),
      buffer: number('buffer', 1, 1024),
    },
  };
}

/**
 * Reads the value of `--capture`: `port=N,file=PATH`, and any of `rx`, `tx`, `both`, `queue=`, `snaplen=`, `count=`, `size=`, `buffer=`.
 * @throws VirtioError EINVAL that names the key
 */
export function parseCaptureWish(text: string): CaptureWish {
  const { args, options } = read(text, ['port', 'file', ...OPTION_KEYS]);
  const file = args.required('file');
  args.required('port');
  return { port: args.unsigned('port', { min: 0, max: 65535, default: 0 }), options: { file, ...options } };
}

/** The same keys without `port` and `file`. @throws VirtioError EINVAL that names the key */
export function parseCaptureOptions(file: string, text: string): CaptureOptions {
  return { file, ...read(text, OPTION_KEYS).options };
}
