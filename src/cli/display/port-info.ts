/**
 * `show port info`, `show port summary` and `show device info`.
 * @module
 */
import { formatMac, type MacAddress } from '../../net/mac-address.ts';
import type { Port } from '../../port/port.ts';
import { flowTypeLines } from './flow-types.ts';
import { linkSpeedText } from './link.ts';
import { vlanOffloadText } from './offloads.ts';
import { queueCounts } from './queue-counts.ts';

const border = '*********************';

function rssTypesText(types: readonly string[]): string {
  return types.length === 0 ? 'No RSS offload flow type is supported.\n' : `Supported RSS offload flow types:\n${flowTypeLines(types)}`;
}

/** The whole block of `show port info N`. */
export function portInfoText(port: Port): string {
  const { info, configuration } = port;
  const link = port.link();
  const { rx: rxQueues, tx: txQueues } = queueCounts(port);
  const lines = [
    '',
    `${border} Infos for port ${String(port.id).padEnd(2)} ${border}`,
    `MAC address: ${formatMac(port.mac)}`,
    `Device name: ${port.name}`,
    `Driver name: ${info.driverName}`,
    'Firmware-version: not available',
    `Devargs: ${port.devargs}`,
    'Connect to socket: 0',
    'memory allocation on the socket: 0',
    `Link status: ${link.up ? 'up' : 'down'}`,
    `Link speed: ${linkSpeedText(link)}`,
    `Link duplex: ${link.fullDuplex ? 'full-duplex' : 'half-duplex'}`,
    `Autoneg status: ${link.autonegotiation ? 'On' : 'Off'}`,
    `MTU: ${port.mtu}`,
    `Promiscuous mode: ${port.promiscuous ? 'enabled' : 'disabled'}`,
    `Allmulticast mode: ${port.allMulticast ? 'enabled' : 'disabled'}`,
    `Maximum number of MAC addresses: ${info.maxMacAddresses}`,
    `Maximum number of MAC addresses of hash filtering: ${info.maxHashMacAddresses}`,
    'VLAN offload: ',
    vlanOffloadText(configuration?.rxOffloads ?? 0),
  ];
  if (info.hashKeySize > 0) lines.push(`Hash key size in bytes: ${info.hashKeySize}`);
  if (info.redirectionTableSize > 0) lines.push(`Redirection table size: ${info.redirectionTableSize}`);
  lines.push(
    rssTypesText(info.rssFlowTypes).trimEnd(),
    `Minimum size of RX buffer: ${info.minRxBufferSize}`,
    `Maximum configurable length of RX packet: ${info.maxRxPacketLength}`,
    `Maximum configurable size of LRO aggregated packet: ${info.maxLroPacketSize}`,
    `Current number of RX queues: ${rxQueues}`,
    `Max possible RX queues: ${info.maxRxQueues}`,
    `Max possible number of RXDs per queue: ${info.rxDescriptors.max}`,
    `Min possible number of RXDs per queue: ${info.rxDescriptors.min}`,
    `RXDs number alignment: ${info.rxDescriptors.align}`,
    `Current number of TX queues: ${txQueues}`,
    `Max possible TX queues: ${info.maxTxQueues}`,
    `Max possible number of TXDs per queue: ${info.txDescriptors.max}`,
    `Min possible number of TXDs per queue: ${info.txDescriptors.min}`,
    `TXDs number alignment: ${info.txDescriptors.align}`,
    `Max segment number per packet: ${info.maxSegmentsPerPacket}`,
    `Max segment number per MTU/TSO: ${info.maxSegmentsPerMtu}`,
    'Device capabilities: 0x0( )',
    'Device error handling mode: none',
  );
  return `${lines.join('\n')}\n`;
}

/** The two lines above the table of `show port summary`. */
export function portSummaryHeader(ports: number): string {
  return `Number of available ports: ${ports}\nPort MAC Address       Name         Driver         Status   Link\n`;
}

/** A port's line of `show port summary`. */
export function portSummaryLine(port: Port): string {
  const link = port.link();
  const columns = [
    String(port.id).padEnd(4),
    formatMac(port.mac),
    port.name.padEnd(12),
    port.info.driverName.padEnd(14),
    (link.up ? 'up' : 'down').padEnd(8),
    linkSpeedText(link),
  ];
  return `${columns.join(' ')}\n`;
}

function addressesText(what: string, addresses: readonly MacAddress[]): string {
  return `Number of ${what} address added: ${addresses.length}\n${addresses.map((mac) => `  ${formatMac(mac)}\n`).join('')}`;
}

/** `show port N macs`. */
export function macAddressesText({ macAddresses }: Port): string {
  return addressesText('MAC', macAddresses);
}

/** `show port N mcast_macs`. */
export function multicastAddressesText({ multicastAddresses }: Port): string {
  return addressesText('Multicast MAC', multicastAddresses);
}

/** A device's block of `show device info`. */
export function deviceInfoText(port: Port): string {
  return [
    '',
    `${border} Infos for device ${port.name} ${border}`,
    `Bus name: ${port.bus}`,
    'Bus information: ',
    `Driver name: ${port.info.driverName}`,
    `Devargs: ${port.devargs}`,
    'Connect to socket: 0',
    '',
    `\tPort id: ${String(port.id).padEnd(2)}`,
    `\tMAC address: ${formatMac(port.mac)}`,
    `\tDevice name: ${port.name}`,
    '\tDevice speed capability: Autonegotiate (all speeds)',
    '',
  ].join('\n');
}
