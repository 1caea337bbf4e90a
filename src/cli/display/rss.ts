/**
 * `show port rss-hash`: kinds of packets that are hashed, and the key.
 * @module
 */
import { RSS_IP, RSS_SCTP, RSS_TCP, RSS_TYPE_NAMES, RSS_UDP } from '../../port/rss.ts';
import { flowTypeLines } from './flow-types.ts';

const bits = (...names: readonly string[]): bigint =>
  RSS_TYPE_NAMES.reduce((types, [name, bit]) => (names.includes(name) ? types | bit : types), 0n);

const vlan = bits('s-vlan', 'c-vlan');

/** Names of several kinds at once, in testpmd's order, which is before the single ones. */
export const rssGroups: readonly (readonly [name: string, types: bigint])[] = [
  ['ip', RSS_IP],
  ['udp', RSS_UDP],
  ['tcp', RSS_TCP],
  ['sctp', RSS_SCTP],
  ['tunnel', bits('vxlan', 'geneve', 'nvgre')],
  ['vlan', vlan],
];

/** What `port config all rss all` stands for. */
export const allRssTypes =
  RSS_IP |
  RSS_UDP |
  RSS_TCP |
  RSS_SCTP |
  vlan |
  bits('eth', 'l2-payload', 'l2tpv3', 'esp', 'ah', 'pfcp', 'gtpu', 'ecpri', 'mpls', 'l2tpv2');

/** The block of `show port ID rss-hash`; with the key where there is one. */
export function rssFunctionsText(types: bigint, key: Uint8Array | undefined): string {
  const names = [...rssGroups, ...RSS_TYPE_NAMES].filter(([, of]) => (types & of) === of).map(([name]) => name);
  const keyText = key === undefined ? '' : `RSS key:\n${Buffer.from(key).toString('hex').toUpperCase()}\n`;
  return `RSS functions:\n${flowTypeLines(names)}${keyText}`;
}
