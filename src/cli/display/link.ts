/**
 * Link state in words, as ethdev prints it.
 * @module
 */
import type { Link } from '../../port/port.ts';

const speeds: Readonly<Record<number, string>> = {
  10: '10 Mbps',
  100: '100 Mbps',
  1000: '1 Gbps',
  2500: '2.5 Gbps',
  5000: '5 Gbps',
  10000: '10 Gbps',
  20000: '20 Gbps',
  25000: '25 Gbps',
  40000: '40 Gbps',
  50000: '50 Gbps',
  56000: '56 Gbps',
  100000: '100 Gbps',
  200000: '200 Gbps',
};

/** `10 Gbps`; a speed of 0 is `Unknown` while the link is up and `None` while it is down. */
export function linkSpeedText(link: Link): string {
  if (link.speed === 0 || link.speed === 0xffff_ffff) return link.up ? 'Unknown' : 'None';
  return speeds[link.speed] ?? 'Invalid';
}

/** `Link up at 10 Gbps FDX Fixed`, or `Link down`. */
export function linkText(link: Link): string {
  if (!link.up) return 'Link down';
  return `Link up at ${linkSpeedText(link)} ${link.fullDuplex ? 'FDX' : 'HDX'} ${link.autonegotiation ? 'Autoneg' : 'Fixed'}`;
}
