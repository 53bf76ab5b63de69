// An OIDC issuer for the tests, on the certified implementation oidc-provider.
//
// Two workloads get access tokens by client credentials. Which token, the resource indicator says:
//   urn:bailiwick                  audience `bailiwick`, RS256        urn:bailiwick:es256, :eddsa   other algorithms
//   urn:bailiwick:other-audience   audience `payroll`                 urn:bailiwick:expired         expired an hour ago
// Settings: ISSUER (its https URL), LISTEN_HOST, LISTEN_PORT, TLS_CERTIFICATE, TLS_KEY (PEM files).

import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { exportJWK, generateKeyPair } from 'jose';
import { Provider, errors } from 'oidc-provider';

const { ISSUER, LISTEN_HOST, LISTEN_PORT, TLS_CERTIFICATE, TLS_KEY } = process.env;

const HOUR = 3600;
const RESOURCES = new Map([
  ['urn:bailiwick', { audience: 'bailiwick', alg: 'RS256' }],
  ['urn:bailiwick:es256', { audience: 'bailiwick', alg: 'ES256' }],
  ['urn:bailiwick:eddsa', { audience: 'bailiwick', alg: 'EdDSA' }],
  ['urn:bailiwick:other-audience', { audience: 'payroll', alg: 'RS256' }],
  ['urn:bailiwick:expired', { audience: 'bailiwick', alg: 'RS256', expiredFor: HOUR }],
]);

const workload = (name, groups) => ({
  client_id: name,
  client_secret: `${name}-secret`,
  groups,
  grant_types: ['client_credentials'],
  response_types: [],
  redirect_uris: [],
});

// Keys are made at each start, under ids of their own: nothing to keep, and a restart is a rotation.
const START = Date.now().toString(36);
async function signingKey(alg, options) {
  const { privateKey } = await generateKeyPair(alg, { extractable: true, ...options });
  return { ...await exportJWK(privateKey), alg, use: 'sig', kid: `${alg.toLowerCase()}-${START}` };
}

const provider = new Provider(ISSUER, {
  clients: [workload('analyst', ['ml-analysts']), workload('intern', ['interns'])],
  extraClientMetadata: { properties: ['groups'] },
  jwks: {
    keys: await Promise.all([
      signingKey('RS256', { modulusLength: 2048 }),
      signingKey('ES256'),
      signingKey('EdDSA', { crv: 'Ed25519' }),
    ]),
  },
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo(_context, name) {
        const resource = RESOURCES.get(name);
        if (!resource) throw new errors.InvalidTarget();
        return {
          audience: resource.audience,
          scope: '',
          accessTokenFormat: 'jwt',
          accessTokenTTL: HOUR,
          jwt: { sign: { alg: resource.alg } },
        };
      },
    },
  },
  extraTokenClaims: (context) => ({ groups: context.oidc.client.groups }),
  formats: {
    customizers: {
      // A token that has expired cannot be had by asking for a short life: the caller would have to wait it out.
      jwt(context, _token, parts) {
        const late = RESOURCES.get(context.oidc.params.resource)?.expiredFor;
        if (late) {
          parts.payload.exp -= HOUR + late;
          parts.payload.iat -= HOUR + late;
        }
        return parts;
      },
    },
  },
});

provider.on('server_error', (_context, error) => console.error('server error:', error.message));

createServer({ cert: readFileSync(TLS_CERTIFICATE), key: readFileSync(TLS_KEY) }, provider.callback())
  .listen(Number(LISTEN_PORT), LISTEN_HOST, () => console.log('ready', ISSUER));
