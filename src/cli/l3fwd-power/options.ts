/**
 * The options after `--`: what they are called, what they set, and which of DPDK's have no effect or are refused.
 * @module
 */
import { parsePrefix } from '../../net/ip-address.ts';
import { parseMac, type MacAddress } from '../../net/mac-address.ts';
import { ArgumentFailure, exitLines } from '../arguments/failure.ts';
import { decimal, maskBits, unsigned } from '../arguments/number.ts';
import type { Mutable, OptionSpec, RefusedOption } from '../arguments/option-table.ts';
import type { L3fwdOptions, QueueAssignment } from './settings.ts';

/** What the options of one command line write into. */
export interface L3fwdDraft {
  readonly options: Mutable<L3fwdOptions>;
  /** Lines for stdout: what DPDK says of an option as it reads it. */
  readonly said: string[];
  interruptOnly: boolean;
  help: boolean;
}

/** Ports that a mask can name, and the most numbers in a --config. */
const PORT_LIMIT = 32;
const CONFIG_LIMIT = 1024;
const NUMBER_LIMIT = 255;

/** An argument that is wrong: what DPDK prints, and why. */
export function l3fwdFailure(line: string | undefined, reason: string, withUsage = false): ArgumentFailure {
  const lines = [...(line === undefined ? [] : [line]), ...exitLines('Invalid L3FWD parameters')];
  return new ArgumentFailure(lines, reason, withUsage ? 'l3fwd-power' : undefined);
}

/** `(port,queue,lcore),(port,queue,lcore)`; undefined when it is something else. */
export function parseConfig(text: string): readonly QueueAssignment[] | undefined {
  if (!/^\s*\([^()]*\)(\s*,?\s*\([^()]*\))*\s*$/.test(text)) return undefined;
  const assignments: QueueAssignment[] = [];
  for (const [, group = ''] of text.matchAll(/\(([^()]*)\)/g)) {
    const numbers = group.split(',').map((part) => unsigned(part.trim()));
    const [port, queue, lcore] = numbers;
    if (numbers.length !== 3 || port === undefined || queue === undefined || lcore === undefined) return undefined;
    if (Math.max(port, queue, lcore) > NUMBER_LIMIT) return undefined;
    assignments.push({ port, queue, lcore });
  }
  return assignments.length > CONFIG_LIMIT ? undefined : assignments;
}

const FREQUENCY = 'it sets frequencies of the CPU, which belong to the kernel here; leave it out';

export const L3FWD_OPTIONS: readonly OptionSpec<L3fwdDraft>[] = [
  {
    kind: 'supported',
    short: 'p',
    argument: 'required',
    shape: 'PORTMASK',
    summary: 'hexadecimal bitmask of the ports to configure',
    apply(draft, value) {
      const ports = maskBits(value);
      if (ports === undefined || ports.length === 0 || (ports.at(-1) ?? 0) >= PORT_LIMIT) {
        throw l3fwdFailure(
          'invalid portmask',
          `-p ${value}: expected a hexadecimal mask of ports 0 to 31, as in -p 3 for ports 0 and 1`,
          true,
        );
      }
      draft.options.ports = ports;
    },
  },
  {
    kind: 'supported',
    short: 'P',
    argument: 'none',
    summary: 'enable promiscuous mode',
    apply(draft) {
      draft.options.promiscuous = true;
      draft.said.push('Promiscuous mode selected');
    },
  },
  {
    kind: 'supported',
    long: 'config',
    argument: 'required',
    shape: '"(port,queue,lcore)[,(port,queue,lcore)]"',
    summary: 'which lcore has which receive queue (default: queue 0 of every port, one lcore after the other)',
    apply(draft, value) {
      const config = parseConfig(value);
      if (config === undefined) {
        throw l3fwdFailure('invalid config', `--config ${value}: expected groups of three numbers, as in --config="(0,0,1),(1,0,2)"`, true);
      }
      draft.options.config = config;
    },
  },
  {
    kind: 'supported',
    long: 'no-numa',
    argument: 'none',
    summary: 'no NUMA awareness; there is one memory here in any case',
    apply(draft) {
      draft.options.numa = false;
      draft.said.push('numa is disabled ');
    },
  },
  {
    kind: 'supported',
    long: 'max-pkt-len',
    argument: 'required',
    shape: 'PKTLEN',
    summary: 'longest frame in bytes, its CRC included (64-9600)',
    apply(draft, value) {
      const length = decimal(value);
      if (length === undefined || length < 0)
        throw l3fwdFailure(undefined, `--max-pkt-len ${value}: expected a number of bytes, 64 to 9600`, true);
      draft.options.maxPktLen = length;
      draft.said.push('Custom frame size is configured');
    },
  },
  {
    kind: 'supported',
    long: 'parse-ptype',
    argument: 'none',
    summary: 'find out by software what a packet is; it is done so in any case',
    apply(draft) {
      draft.options.parsePtype = true;
      draft.said.push('soft parse-ptype is enabled');
    },
  },
  {
    kind: 'supported',
    long: 'interrupt-only',
    argument: 'none',
    summary: 'sleep until the interrupt of a receive queue; the default, as no frequencies are scaled here',
    apply(draft) {
      if (draft.interruptOnly)
        throw l3fwdFailure(' interrupt-only mode is mutually exclusive with other modes', '--interrupt-only: it was given already');
      draft.interruptOnly = true;
      draft.said.push('interrupt-only mode is enabled');
    },
  },
  {
    kind: 'supported',
    long: 'lookup',
    own: true,
    argument: 'required',
    shape: 'lpm|em',
    summary: 'longest prefix match, or exact match of addresses, ports and protocol (default: lpm)',
    apply(draft, value) {
      if (value !== 'lpm' && value !== 'em') throw l3fwdFailure(undefined, `--lookup ${value}: expected lpm or em`);
      draft.options.lookup = value;
    },
  },
  {
    kind: 'supported',
    short: 'L',
    own: true,
    argument: 'none',
    summary: "--lookup=lpm, by the name that it has in DPDK's l3fwd",
    apply(draft) {
      draft.options.lookup = 'lpm';
    },
  },
  {
    kind: 'supported',
    short: 'E',
    own: true,
    argument: 'none',
    summary: "--lookup=em, by the name that it has in DPDK's l3fwd",
    apply(draft) {
      draft.options.lookup = 'em';
    },
  },
  {
    kind: 'supported',
    long: 'rule_ipv4',
    own: true,
    argument: 'required',
    shape: 'FILE',
    summary: "rules for IPv4 in the place of the default ones, in the format of DPDK's l3fwd",
    apply(draft, value) {
      draft.options.ruleFiles = { ...draft.options.ruleFiles, 4: value };
    },
  },
  {
    kind: 'supported',
    long: 'rule_ipv6',
    own: true,
    argument: 'required',
    shape: 'FILE',
    summary: 'the same for IPv6',
    apply(draft, value) {
      draft.options.ruleFiles = { ...draft.options.ruleFiles, 6: value };
    },
  },
  {
    kind: 'supported',
    long: 'route',
    own: true,
    argument: 'required',
    shape: 'PREFIX,PORT',
    summary: 'one more route, IPv4 or IPv6: --route=198.51.100.0/24,1; may be repeated',
    apply(draft, value) {
      const [prefix = '', portText = '', more] = value.split(',');
      const port = decimal(portText);
      if (parsePrefix(prefix) === undefined || port === undefined || port < 0 || port >= PORT_LIMIT || more !== undefined) {
        throw l3fwdFailure(undefined, `--route ${value}: expected a prefix and a port, as in --route=198.51.100.0/24,1`);
      }
      draft.options.routes = [...draft.options.routes, { prefix, port }];
    },
  },
  {
    kind: 'supported',
    long: 'eth-dest',
    own: true,
    argument: 'required',
    shape: 'PORT,MAC',
    summary: 'destination address of what a port sends (default: 02:00:00:00:00:PORT); may be repeated',
    apply(draft, value) {
      const comma = value.indexOf(',');
      const port = decimal(value.slice(0, comma));
      const mac = parseMac(value.slice(comma + 1));
      if (comma < 0 || port === undefined || port < 0 || port >= PORT_LIMIT || mac === undefined) {
        throw l3fwdFailure(undefined, `--eth-dest ${value}: expected a port and an address, as in --eth-dest=0,02:00:00:00:00:09`);
      }
      draft.options.destinations = new Map<number, MacAddress>([...draft.options.destinations, [port, mac]]);
    },
  },
  {
    kind: 'supported',
    long: 'empty-polls',
    own: true,
    argument: 'required',
    shape: 'N',
    summary: 'polls without a packet before an lcore sleeps, 1 and up (default: 300)',
    apply(draft, value) {
      const polls = decimal(value);
      if (polls === undefined || polls < 1) throw l3fwdFailure(undefined, `--empty-polls ${value}: expected a number, 1 and up`);
      draft.options.emptyPolls = polls;
    },
  },
  {
    kind: 'supported',
    long: 'help',
    own: true,
    argument: 'none',
    summary: 'this text',
    apply(draft) {
      draft.help = true;
    },
  },
  refused('legacy', 'none', `it scales the frequencies of the CPU, which belong to the kernel here; --interrupt-only sleeps as well`),
  refused('empty-poll', 'required', 'it scales the frequencies of the CPU by the number of empty polls; --interrupt-only sleeps instead'),
  refused('telemetry', 'none', "there is no telemetry socket; 'sleeps' and 'wake-ups' of every lcore are printed at the end"),
  refused(
    'pmd-mgmt',
    'required',
    'monitor, pause and scale are instructions and frequencies of the CPU that JavaScript cannot reach; use --interrupt-only',
  ),
  refused('max-empty-polls', 'required', 'it belongs to --pmd-mgmt; --empty-polls=N says when an lcore sleeps'),
  refused('pause-duration', 'required', 'it belongs to --pmd-mgmt'),
  refused('scale-freq-min', 'required', FREQUENCY),
  refused('scale-freq-max', 'required', FREQUENCY),
  refused('perf-config', 'required', 'name the lcores themselves with --config'),
  refused('high-perf-cores', 'required', 'it is for --perf-config; name the lcores themselves with --config'),
  { kind: 'refused', short: 'l', argument: 'required', why: FREQUENCY },
  { kind: 'refused', short: 'm', argument: 'required', why: FREQUENCY },
  { kind: 'refused', short: 'h', argument: 'required', why: `${FREQUENCY}; the options are listed by --help` },
  { kind: 'refused', short: 'u', argument: 'none', why: FREQUENCY },
  { kind: 'refused', short: 'U', argument: 'none', why: FREQUENCY },
  { kind: 'refused', short: 'i', argument: 'required', why: FREQUENCY },
];

function refused(long: string, argument: 'none' | 'required', why: string): RefusedOption {
  return { kind: 'refused', long, argument, why };
}
