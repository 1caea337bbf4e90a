/**
 * `show port N ptypes`.
 * @module
 */
const layers = ['L2', 'L3', 'L4', 'Tunnel', 'Inner L2', 'Inner L3', 'Inner L4'] as const;

/** No driver here tells the types of the packets that it receives. */
export function packetTypesText(): string {
  return layers.map((layer) => `${layer} ptypes unsupported\n`).join('');
}
