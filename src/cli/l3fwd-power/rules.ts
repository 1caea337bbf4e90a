/**
 * Routes of l3fwd-power: those that DPDK's has built in, and files of rules in the format of DPDK's l3fwd.
 *
 *     # prefixes                       # flows: destination, source, destination port, source port, protocol, port
 *     R198.18.0.0/24 0                 E198.18.0.1 198.18.0.2 9 10 0x11 0
 *     R2001:200::/64 1                 E2001:200::1 2001:200::2 9 10 0x06 1
 * @module
 */
import { readFileSync } from 'node:fs';
import type { Flow } from '../../net/flow-table.ts';
import { formatIpAddress, formatPrefix, parseIpAddress, parsePrefix, type Prefix } from '../../net/ip-address.ts';
import { VirtioError } from '../../system/error.ts';
import { unsigned } from '../arguments/number.ts';

export interface PrefixRule {
  readonly prefix: Prefix;
  readonly port: number;
}

export interface FlowRule {
  readonly flow: Flow;
  readonly port: number;
}

const PORT_LIMIT = 255;

function prefixRule(text: string, port: number): PrefixRule {
  const prefix = parsePrefix(text);
  if (prefix === undefined) throw new RangeError(text);
  return { prefix, port };
}

/** 1.1.1.0/24 to port 0, 2.1.1.0/24 to port 1 ...: l3fwd-power's; and 2001:200:0:N::/64 to port N, which are l3fwd's. */
export const DEFAULT_PREFIXES: Readonly<Record<4 | 6, readonly PrefixRule[]>> = {
  4: Array.from({ length: 8 }, (_, port) => prefixRule(`${String(port + 1)}.1.1.0/24`, port)),
  6: Array.from({ length: 8 }, (_, port) => prefixRule(`2001:200:0:${port.toString(16)}::/64`, port)),
};

function flowRule(line: string): FlowRule {
  const rule = parseFlow(line.split(' '));
  if (rule === undefined) throw new RangeError(line);
  return rule;
}

/** The flows that are compiled into DPDK's with exact match. */
export const DEFAULT_FLOWS: Readonly<Record<4 | 6, readonly FlowRule[]>> = {
  4: [
    '100.10.0.1 200.10.0.1 101 11 6 0',
    '100.20.0.2 200.20.0.2 102 12 6 1',
    '100.30.0.3 200.30.0.3 103 13 6 2',
    '100.40.0.4 200.40.0.4 104 14 6 3',
  ].map(flowRule),
  6: ['fe80::21b:21ff:fe91:3805 fe80::21e:67ff:fe0d:b60a 1 10 17 4'].map(flowRule),
};

/** The six words of a flow; undefined when they are none. */
function parseFlow([to = '', from = '', toPort = '', fromPort = '', protocol = '', port = '', ...more]: readonly string[]):
  FlowRule | undefined {
  const destination = parseIpAddress(to);
  const source = parseIpAddress(from);
  const [destinationPort, sourcePort, number, out] = [toPort, fromPort, protocol, port].map(unsigned);
  if (destination === undefined || source?.length !== destination.length || more.length > 0) return undefined;
  if (destinationPort === undefined || sourcePort === undefined || number === undefined || out === undefined) return undefined;
  if (Math.max(destinationPort, sourcePort) > 0xffff || number > 0xff || out > PORT_LIMIT) return undefined;
  return { flow: { destination, source, destinationPort, sourcePort, protocol: number }, port: out };
}

export interface Rules {
  readonly prefixes: readonly PrefixRule[];
  readonly flows: readonly FlowRule[];
}

/**
 * Reads a file of rules of one IP version.
 * @throws VirtioError with the file's name and the line: ENOENT and its like, EINVAL for a rule that is none or of the other version
 */
export function readRules(path: string, version: 4 | 6): Rules {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    const { code = 'EIO' } = cause as NodeJS.ErrnoException;
    throw new VirtioError(`--rule_ipv${String(version)}=${path}: ${code === 'ENOENT' ? 'no such file' : code}`, { code, cause });
  }
  const prefixes: PrefixRule[] = [];
  const flows: FlowRule[] = [];
  const bytes = version === 4 ? 4 : 16;
  for (const [index, line] of text.split('\n').entries()) {
    const words = line.trim().split(/\s+/);
    const [first = ''] = words;
    if (first === '' || first.startsWith('#')) continue;
    const wrong = (what: string): VirtioError =>
      new VirtioError(`${path}:${String(index + 1)}: ${line.trim()}: ${what}`, { code: 'EINVAL' });
    if (first.startsWith('R')) {
      const prefix = parsePrefix(first.slice(1));
      const port = unsigned(words[1] ?? '');
      if (prefix?.address.length !== bytes || port === undefined || port > PORT_LIMIT || words.length > 2) {
        throw wrong(
          `expected R, a prefix of IPv${String(version)}, and a port, as in ${version === 4 ? 'R198.18.0.0/24 0' : 'R2001:200::/64 0'}`,
        );
      }
      prefixes.push({ prefix, port });
    } else if (first.startsWith('E')) {
      const rule = parseFlow([first.slice(1), ...words.slice(1)]);
      if (rule?.flow.destination.length !== bytes) {
        throw wrong(`expected E, destination and source of IPv${String(version)}, destination and source port, protocol, and a port`);
      }
      flows.push(rule);
    } else throw wrong('a rule begins with R (a prefix) or E (a flow)');
  }
  return { prefixes, flows };
}

/** What is printed when a prefix is added: IPv4 in DPDK's l3fwd-power's words. */
export function prefixText({ prefix, port }: PrefixRule): string {
  const { address, length } = prefix;
  if (address.length === 16) return `LPM: Adding route ${formatPrefix(prefix)} (${String(port)})`;
  return `LPM: Adding route 0x${Buffer.from(address).toString('hex')} / ${String(length)} (${String(port)})`;
}

/** The two lines that are printed when a flow is added. */
export function flowText({ flow }: FlowRule): string {
  const address = (bytes: Uint8Array): string => (bytes.length === 4 ? Buffer.from(bytes).toString('hex') : formatIpAddress(bytes));
  return (
    'Hash: Adding key\n' +
    `IP dst = ${address(flow.destination)}, IP src = ${address(flow.source)}, port dst = ${String(flow.destinationPort)}, ` +
    `port src = ${String(flow.sourcePort)}, proto = ${String(flow.protocol)}`
  );
}
