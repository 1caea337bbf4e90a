/**
 * The options of testpmd itself, after `--`: what they are called, and how each reads its value.
 * @module
 */
import { parseMac } from '../../net/mac-address.ts';
import type { MacAddress } from '../../net/mac-address.ts';
import { parseCaptureWish } from '../../port/capture-options.ts';
import { nearestName } from '../../port/devargs.ts';
import { VirtioError } from '../../system/error.ts';
import * as bits from '../../port/offloads.ts';
import { RSS_IP, RSS_UDP } from '../../port/rss.ts';
import { testpmdFailure } from './failure.ts';
import { parseItemList, parsePortList } from './item-list.ts';
import { atoi, decimal, formatRanges, hexadecimal, maskBits } from './number.ts';
import type { ArgumentKind, Mutable, OptionSpec, SupportedOption } from './option-table.ts';
import { REFUSED_TESTPMD_OPTIONS } from './testpmd-refused.ts';
import { EVENT_NAMES, FORWARD_MODES } from './testpmd-settings.ts';
import type { EventName, TestpmdOptions } from './testpmd-settings.ts';

export interface TestpmdDraft {
  readonly options: Mutable<TestpmdOptions>;
  readonly notices: string[];
  /** Ids of all lcores, ascending, and of the one among them that does not forward. */
  readonly lcores: readonly number[];
  readonly mainLcore: number;
  /** `--txpkts` as last given; its lengths are checked when the size of the mbufs is known. */
  txpkts: readonly number[] | undefined;
  help: boolean;
}

export type TestpmdOption = OptionSpec<TestpmdDraft>;

/** RTE_MAX_ETHPORTS, RTE_MAX_QUEUES_PER_PORT, MAX_PKT_BURST, RTE_MEMPOOL_CACHE_MAX_SIZE and RTE_MAX_SEGS_PER_PKT of DPDK's build. */
export const MAX_PORTS = 32;
export const MAX_QUEUES = 1024;
const maxBurst = 512;
const maxCache = 512;
const maxSegments = 255;
const int32Max = 0x7fff_ffff;
const uint32Max = 0xffff_ffff;

/** DPDK's other modes. */
const laterForwardModes = ['noisy', 'shared_rxq'];

const CAPTURE_SUMMARY =
  'write every packet that a port receives and sends to a file, pcapng where its name ends so; ' +
  'keys: rx, tx, queue, snaplen, count, size, buffer (MiB); can be repeated';

export const TESTPMD_OPTIONS: readonly TestpmdOption[] = [
  { ...flag('interactive', 'show a prompt and take commands'), short: 'i', apply: ({ options }) => void (options.interactive = true) },
  text('cmdline-file', 'FILE', 'execute the commands of a file first', ({ options }, value) => {
    if (value === '') throw testpmdFailure('Invalid cmdline-file', '--cmdline-file: expected the path of a file');
    options.cmdlineFile = value;
  }),
  {
    ...flag('auto-start', 'start forwarding at once; always so without --interactive'),
    short: 'a',
    apply: ({ options }) => void (options.autoStart = true),
  },
  { ...flag('help', 'print this text'), short: 'h', apply: (draft) => void (draft.help = true) },
  {
    ...flag('tx-first', 'send one burst on every port before forwarding; not with --interactive'),
    apply: ({ options }) => void (options.txFirst = true),
  },
  integer('stats-period', 'SECONDS', 'show the statistics of the ports every so many seconds; not with --interactive', {
    min: 0,
    max: 65535,
    cause: () => 'Invalid stats-period value',
    set: (options, value) => (options.statsPeriod = value),
  }),
  text('nb-cores', 'N', 'forwarding lcores to use (1 to all but the main one; default 1)', (draft, value) => {
    const most = draft.lcores.length - 1;
    const cores = decimal(value);
    if (cores === undefined || cores < 1 || cores > most) {
      throw testpmdFailure(
        `nb-cores should be > 0 and <= ${most}`,
        `--nb-cores=${value}: ${most} lcores can forward, besides the main one`,
      );
    }
    draft.options.nbCores = cores;
  }),
  integer('nb-ports', 'N', 'ports to forward between (default all)', {
    min: 1,
    max: MAX_PORTS,
    cause: (value) => `Invalid port ${value}`,
    set: (options, value) => (options.nbPorts = value),
  }),
  text('coremask', 'MASK', 'forwarding lcores, as a hexadecimal mask; the main one cannot be among them', coremask),
  text('portmask', 'MASK', 'forwarding ports, as a hexadecimal mask', (draft, value) => {
    const ports = maskBits(value);
    const expected = `--portmask=${value}: expected a hexadecimal mask of the ports 0 to ${MAX_PORTS - 1}`;
    if (ports === undefined || ports.some((port) => port >= MAX_PORTS)) throw testpmdFailure('Invalid fwd port mask', expected);
    if (ports.length === 0) draft.notices.push('Invalid NULL mask of ports', `${expected}; it has no effect`);
    else draft.options.forwardingPorts = ports;
  }),
  text('portlist', 'LIST', 'forwarding ports, as numbers and ranges: 0,2-3', (draft, value) => {
    const ports = parsePortList(value, MAX_PORTS);
    if (ports === undefined) {
      throw testpmdFailure('Invalid fwd port list', `--portlist=${value}: expected ports and ranges of 0 to ${MAX_PORTS - 1}, as in 0,2-3`);
    }
    draft.options.forwardingPorts = ports;
  }),
  text('mbuf-size', 'N', 'bytes of an mbuf, 128 of headroom included (128 to 65535; default 2176)', mbufSize),
  integer('total-num-mbufs', 'N', 'mbufs in the pool (more than 1024)', {
    min: 1025,
    max: int32Max,
    cause: () => 'total-num-mbufs should be > 1024',
    set: (options, value) => (options.totalNumMbufs = value),
  }),
  integer('mbcache', 'N', `mbufs that each lcore caches (0 to ${maxCache}; default 250)`, {
    min: 0,
    max: maxCache,
    cause: () => `mbcache must be >= 0 and <= ${maxCache}`,
    set: (options, value) => (options.mbcache = value),
  }),
  integer('max-pkt-len', 'N', 'bytes of the longest frame, CRC included (64 to 65535)', {
    min: 64,
    max: 65535,
    cause: (value) => `Invalid max-pkt-len=${value} - should be > 64`,
    set: (options, value) => (options.maxPktLen = value),
  }),
  integer('max-lro-pkt-size', 'N', "bytes of the largest packet that LRO makes (default: the port's own limit)", {
    min: 0,
    max: uint32Max,
    cause: (value) => `Invalid max-lro-pkt-size=${value}`,
    set: (options, value) => (options.maxLroPktSize = value),
  }),
  text('eth-peers-configfile', 'FILE', 'destination addresses for the ports 0, 1, ... one a line', ({ options }, value) => {
    if (value === '') throw testpmdFailure('Cannot open logfile', '--eth-peers-configfile: expected the path of a file');
    options.ethPeersConfigfile = value;
  }),
  {
    ...text('capture', 'port=N,file=PATH[,KEY...]', CAPTURE_SUMMARY, capture),
    own: true,
  },
  text('eth-peer', 'PORT,ADDRESS', 'destination address of what a port sends; can be repeated', ethPeer),
  text(
    'port-topology',
    'paired|chained|loop',
    'where what a port receives is sent: to its pair, the next port, or back (default paired)',
    (draft, value) => {
      const topology = (['paired', 'chained', 'loop'] as const).find((name) => name === value);
      if (topology === undefined) {
        const cause = `port-topology ${value} invalid - must be: paired, chained or loop`;
        throw testpmdFailure(cause, `--port-topology=${value}: expected paired, chained or loop`);
      }
      draft.options.portTopology = topology;
    },
  ),
  text('forward-mode', 'MODE', `${FORWARD_MODES.join(', ')}, or the path of a module that exports an engine (default io)`, forwardMode),
  integer('rxq', 'N', `receive queues a port (0 to ${MAX_QUEUES}; default 1)`, {
    min: 0,
    max: MAX_QUEUES,
    cause: (value) => `rxq ${value} invalid - must be >= 0 && <= ${MAX_QUEUES}`,
    set: (options, value) => (options.rxq = value),
  }),
  integer('rxd', 'N', 'descriptors of a receive queue (1 to 65535; default: the driver decides)', {
    min: 1,
    max: 65535,
    cause: (value) => `rxd(${value}) invalid - must be > 0`,
    set: (options, value) => (options.rxd = value),
  }),
  integer('txq', 'N', `transmit queues a port (0 to ${MAX_QUEUES}; default 1)`, {
    min: 0,
    max: MAX_QUEUES,
    cause: (value) => `txq ${value} invalid - must be >= 0 && <= ${MAX_QUEUES}`,
    set: (options, value) => (options.txq = value),
  }),
  integer('txd', 'N', 'descriptors of a transmit queue (1 to 65535; default: the driver decides)', {
    min: 1,
    max: 65535,
    cause: () => 'txd must be in > 0',
    set: (options, value) => (options.txd = value),
  }),
  integer('burst', 'N', `packets a burst (1 to ${maxBurst}; default 32)`, {
    min: 1,
    max: maxBurst,
    cause: (value) =>
      value === 0
        ? `PMD does not recommend a burst size. Provided value must be between 1 and ${maxBurst}`
        : `burst must be between1 and ${maxBurst}`,
    set: (options, value) => (options.burst = value),
  }),
  text('txpkts', 'N[,N...]', 'bytes of the segments of the packets that are made (42 or more together; default 64)', (draft, value) => {
    const { items, problem } = parseItemList(value, maxSegments);
    if (items === undefined)
      throw testpmdFailure('bad txpkts', `--txpkts=${value}: expected lengths in bytes, as in --txpkts=64,32`, [problem]);
    draft.txpkts = items;
  }),
  {
    ...integer('txrate', 'N', 'packets a second that txonly and flowgen send on each stream (default 0: all they can). Ours alone', {
      min: 0,
      max: uint32Max,
      cause: (value) => `txrate ${value} invalid - must be >= 0 && <= ${uint32Max}`,
      set: (options, value) => (options.txrate = value),
    }),
    own: true,
  },
  integer('flowgen-flows', 'N', 'flows that flowgen makes (default 1024)', {
    min: 1,
    max: int32Max,
    cause: () => 'flows must be >= 1',
    set: (options, value) => (options.flowgenFlows = value),
  }),
  {
    ...flag('no-flush-rx', 'keep what is in the receive queues when forwarding starts'),
    apply: ({ options }) => void (options.flushRx = false),
  },
  { ...flag('disable-link-check', 'do not wait for the links'), apply: ({ options }) => void (options.linkCheck = false) },
  { ...flag('disable-device-start', 'leave the ports stopped'), apply: ({ options }) => void (options.deviceStart = false) },
  { ...flag('no-lsc-interrupt', 'no events when a link goes up or down'), apply: ({ options }) => void (options.lscInterrupt = false) },
  offloads('tx-offloads', 'transmit', (options, mask) => (options.txOffloads = mask)),
  offloads('rx-offloads', 'receive', (options, mask) => (options.rxOffloads = mask)),
  rxOffload('enable-lro', bits.RX_OFFLOAD_TCP_LRO, 'large packets joined from received segments'),
  rxOffload('enable-rx-cksum', bits.RX_OFFLOAD_CHECKSUM, 'IPv4, UDP and TCP checksums of received packets'),
  rxOffload('enable-rx-timestamp', bits.RX_OFFLOAD_TIMESTAMP, 'times of received packets'),
  rxOffload('enable-scatter', bits.RX_OFFLOAD_SCATTER, 'received packets in several mbufs'),
  rxOffload('disable-crc-strip', bits.RX_OFFLOAD_KEEP_CRC, 'the CRC kept at the end of received packets'),
  rxOffload('enable-hw-vlan', bits.RX_OFFLOAD_VLAN, 'all of the four that follow'),
  rxOffload('enable-hw-vlan-filter', bits.RX_OFFLOAD_VLAN_FILTER, 'received packets filtered by their VLAN tag'),
  rxOffload('enable-hw-vlan-strip', bits.RX_OFFLOAD_VLAN_STRIP, 'VLAN tags taken out of received packets'),
  rxOffload('enable-hw-vlan-extend', bits.RX_OFFLOAD_VLAN_EXTEND, 'two VLAN tags told apart'),
  rxOffload('enable-hw-qinq-strip', bits.RX_OFFLOAD_QINQ_STRIP, 'two VLAN tags taken out of received packets'),
  {
    ...flag('rss-ip', 'packets spread over receive queues by their IP addresses (default)'),
    apply: ({ options }) => void (options.rssTypes = RSS_IP),
  },
  {
    ...flag('rss-udp', 'UDP packets spread over receive queues by addresses and ports'),
    apply: ({ options }) => void (options.rssTypes = RSS_UDP),
  },
  { ...flag('disable-rss', 'packets spread as the device likes'), apply: ({ options }) => void (options.rssTypes = 0n) },
  { ...flag('enable-drop-en', 'receive queues drop what finds no descriptor'), apply: ({ options }) => void (options.dropEnable = true) },
  events('print-event', 'report', (shown, names) => new Set([...shown, ...names])),
  events('mask-event', 'do not report', (shown, names) => new Set([...shown].filter((name) => !names.includes(name)))),
  {
    kind: 'older',
    argument: 'none',
    long: 'i',
    today: '--interactive, or -i',
    apply: ({ options }) => void (options.interactive = true),
  },
  older('none', 'disable-hw-vlan', 'to leave it out: VLAN offloads are off unless --rx-offloads asks for them'),
  older('none', 'disable-hw-vlan-filter', 'to leave it out: VLAN filtering is off unless --rx-offloads asks for it'),
  older('required', 'txqflags', '--tx-offloads=MASK, where 0 is what all flags of --txqflags together meant'),
  ...REFUSED_TESTPMD_OPTIONS,
];

function coremask(draft: TestpmdDraft, value: string): void {
  const forwarding = draft.lcores.filter((lcore) => lcore !== draft.mainLcore);
  const reason = `--coremask=${value}: expected a hexadecimal mask of forwarding lcores, which are ${formatRanges(forwarding)}`;
  const lcores = maskBits(value);
  if (lcores === undefined) throw testpmdFailure('Invalid fwd core mask', reason);
  const refuse = (line: string) => testpmdFailure('coremask is not valid', reason, [line]);
  if (lcores.length === 0) throw refuse('Invalid NULL mask of cores');
  for (const lcore of lcores) {
    if (lcore === draft.mainLcore) {
      throw refuse(
        `lcore ${lcore} cannot be masked on for running packet forwarding, which is the main lcore and reserved for command line parsing only`,
      );
    }
    if (!draft.lcores.includes(lcore)) throw refuse(`lcore ${lcore} not enabled`);
  }
  draft.options.forwardingLcores = lcores;
}

function mbufSize(draft: TestpmdDraft, value: string): void {
  const { items, problem } = parseItemList(value, maxSegments);
  const reason = `--mbuf-size=${value}: expected a number of bytes from 128 to 65535`;
  if (items === undefined) throw testpmdFailure('bad mbuf-size', reason, [problem]);
  const [size = 0, ...others] = items;
  if (items.some((item) => item < 1 || item > 65535)) throw testpmdFailure('mbuf-size should be > 0 and < 65536', reason);
  if (others.length > 0) throw testpmdFailure('bad mbuf-size', `--mbuf-size=${value}: more than one pool is not supported yet`);
  if (size < 128) {
    const lines = [`mb_pool_0 mbuf_data_room_size ${size} < 128 (128 + 0)`, 'Fail to configure port 0 rx queues'];
    throw testpmdFailure('Start ports failed', `${reason}, as 128 of them are headroom`, lines);
  }
  draft.options.mbufSize = size;
}

function ethPeer(draft: TestpmdDraft, value: string): void {
  const comma = value.indexOf(',');
  const port = comma < 0 ? undefined : decimal(value.slice(0, comma));
  const expected = `--eth-peer=${value}: expected a port and its peer's address, as in --eth-peer=0,02:00:00:00:00:01`;
  if (port === undefined || port < 0) throw testpmdFailure(`Invalid eth-peer: ${value}`, expected);
  if (port >= MAX_PORTS) throw testpmdFailure(`eth-peer: port ${port} >= RTE_MAX_ETHPORTS(${MAX_PORTS})`, expected);
  const address = value.slice(comma + 1);
  const mac = parsePeerAddress(address);
  if (mac === undefined) throw testpmdFailure(`Invalid ethernet address: ${address}`, expected);
  draft.options.ethPeers = [...draft.options.ethPeers.filter((peer) => peer.port !== port), { port, mac }];
}

/** `XX:XX:XX:XX:XX:XX` or `XXXX:XXXX:XXXX`: every digit is written, as in DPDK. */
export function parsePeerAddress(text: string): MacAddress | undefined {
  if (/^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/.test(text)) return parseMac(text);
  if (!/^[0-9a-fA-F]{4}(:[0-9a-fA-F]{4}){2}$/.test(text)) return undefined;
  return parseMac(text.replaceAll(':', '').replace(/(..)(?=.)/g, '$1:'));
}

function forwardMode(draft: TestpmdDraft, value: string): void {
  const { options, notices } = draft;
  const older = { mac_retry: { mode: 'mac', retry: true }, mac_fwd: { mode: 'mac', retry: false } } as const;
  if (value === 'mac_retry' || value === 'mac_fwd') {
    const { mode, retry } = older[value];
    notices.push(
      `--forward-mode=${value}: today's spelling is --forward-mode=mac${retry ? ', and "set fwd mac retry" at the prompt' : ''}`,
    );
    options.forwardMode = mode;
    options.retry = retry;
    return;
  }
  if (laterForwardModes.includes(value)) {
    const reason = `--forward-mode=${value}: not supported yet; expected ${FORWARD_MODES.join(', ')}, or the path of a module`;
    throw testpmdFailure(`Invalid ${value} packet forwarding mode`, reason);
  }
  if (FORWARD_MODES.some((mode) => mode === value) || /\/|\.m?[jt]s$/.test(value)) {
    options.forwardMode = value;
    options.retry = false;
    return;
  }
  // DPDK says so and goes on with the mode that it has; scripts rely on neither more nor less.
  const nearest = nearestName(value, FORWARD_MODES);
  const hint = nearest === undefined ? `expected ${FORWARD_MODES.join(', ')}, or the path of a module` : `did you mean ${nearest}?`;
  notices.push(`Invalid ${value} packet forwarding mode`, `--forward-mode=${value}: ${hint} The mode stays ${options.forwardMode}`);
}

type Options = TestpmdDraft['options'];

interface IntegerOption {
  readonly min: number;
  readonly max: number;
  /** DPDK's words for a value out of range. */
  cause(value: number): string;
  set(options: Options, value: number): void;
}

function integer(long: string, shape: string, summary: string, option: IntegerOption): SupportedOption<TestpmdDraft> {
  return text(long, shape, summary, (draft, value) => {
    const number = decimal(value);
    if (number === undefined || number < option.min || number > option.max) {
      throw testpmdFailure(
        option.cause(number ?? atoi(value)),
        `--${long}=${value}: expected a number from ${option.min} to ${option.max}`,
      );
    }
    option.set(draft.options, number);
  });
}

function offloads(long: string, direction: string, set: (options: Options, mask: number) => void): TestpmdOption {
  return text(long, 'MASK', `${direction} offloads of the ports, as a hexadecimal mask of DPDK's bits`, (draft, value) => {
    const mask = hexadecimal(value);
    if (mask === undefined || mask > int32Max)
      throw testpmdFailure(`${long} must be >= 0`, `--${long}=${value}: expected a hexadecimal mask from 0 to 0x7fffffff`);
    set(draft.options, mask);
  });
}

/** Adds to what is asked for so far: a --rx-offloads after it says everything anew. */
function rxOffload(long: string, offload: number, summary: string): TestpmdOption {
  return { ...flag(long, `receive offload: ${summary}`), apply: ({ options }) => void (options.rxOffloads |= offload) };
}

function events(
  long: string,
  verb: string,
  change: (shown: ReadonlySet<EventName>, names: readonly EventName[]) => ReadonlySet<EventName>,
): TestpmdOption {
  return text(long, 'EVENT', `${verb} this event of the ports (${EVENT_NAMES.join(', ')}, or all)`, (draft, value) => {
    const names = value === 'all' ? EVENT_NAMES : EVENT_NAMES.filter((name) => name === value);
    if (names.length === 0) {
      throw testpmdFailure(`invalid ${long} argument`, `--${long}=${value}: expected ${EVENT_NAMES.join(', ')} or all`, [
        `Invalid event: ${value}`,
      ]);
    }
    draft.options.printEvents = change(draft.options.printEvents, names);
  });
}

function capture({ options }: TestpmdDraft, value: string): void {
  try {
    options.captures = [...options.captures, parseCaptureWish(value)];
  } catch (error) {
    if (!(error instanceof VirtioError)) throw error;
    throw testpmdFailure(`Invalid capture ${value}`, `--capture=${value}: ${error.message}`);
  }
}

function flag(long: string, summary: string) {
  return { kind: 'supported', argument: 'none', long, summary } as const;
}

function text(long: string, shape: string, summary: string, apply: SupportedOption<TestpmdDraft>['apply']): SupportedOption<TestpmdDraft> {
  return { kind: 'supported', argument: 'required', long, shape, summary, apply };
}

function older(argument: ArgumentKind, long: string, today: string): TestpmdOption {
  return { kind: 'older', argument, long, today, apply: () => undefined };
}
