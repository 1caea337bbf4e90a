/**
 * Limits of a port without hardware behind it: as good as none. Drivers take these and say where they differ.
 * @module
 */
import type { PortInfo } from './port.ts';

export const SOFTWARE_PORT_INFO: Omit<PortInfo, 'driverName' | 'maxRxQueues' | 'maxTxQueues'> = {
  minRxBufferSize: 0,
  maxRxPacketLength: 4294967295,
  maxLroPacketSize: 0,
  minMtu: 68,
  maxMtu: 65535,
  maxMacAddresses: 1,
  maxHashMacAddresses: 0,
  rxDescriptors: { min: 0, max: 65535, align: 1 },
  txDescriptors: { min: 0, max: 65535, align: 1 },
  redirectionTableSize: 0,
  hashKeySize: 0,
  rssFlowTypes: [],
  rxOffloadCapabilities: 0,
  txOffloadCapabilities: 0,
  maxSegmentsPerPacket: 65535,
  maxSegmentsPerMtu: 65535,
};
