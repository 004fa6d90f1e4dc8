// Runs bittorrent-dht nodes for the interop tests.
//
// Reads one JSON request per line from stdin, writes one JSON answer per line to stdout, in any
// order: {"id": 1, "op": "start", "node": 0, ...} is met by {"id": 1, "ok": {...}},
// {"id": 1, "unsupported": "why"} or {"id": 1, "error": "what went wrong"}. Byte strings are hex,
// addresses are "ip:port". It ends when stdin does. With INTEROP_TRACE set, every datagram goes
// to stderr.

import crypto from 'node:crypto'
import dgram from 'node:dgram'
import readline from 'node:readline'

import DHT from 'bittorrent-dht'

// What the DER forms of an ed25519 private and public key (RFC 8410) begin with.
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')
const SPKI = Buffer.from('302a300506032b6570032100', 'hex')

class Unsupported extends Error {}

const nodes = new Map()

function verify (signature, message, publicKey) {
  const der = Buffer.concat([SPKI, publicKey])
  const key = crypto.createPublicKey({ key: der, format: 'der', type: 'spki' })
  return crypto.verify(null, message, key, signature)
}

function signer (seed) {
  const der = Buffer.concat([PKCS8, seed])
  const key = crypto.createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  return (message) => crypto.sign(null, message, key)
}

function endpoint (text) {
  const at = text.lastIndexOf(':')
  return { host: text.slice(0, at), port: Number(text.slice(at + 1)) }
}

function tracedSocket (addr) {
  const socket = dgram.createSocket('udp4')
  if (!('INTEROP_TRACE' in process.env)) return socket
  const send = socket.send.bind(socket)
  socket.send = (buffer, offset, length, port, host, done) => {
    console.error(`${addr} ==> ${host}:${port} ${buffer.toString('latin1')}`)
    send(buffer, offset, length, port, host, done)
  }
  socket.on('message', (buffer, from) => {
    console.error(`${addr} <== ${from.address}:${from.port} ${buffer.toString('latin1')}`)
  })
  return socket
}

function start ({ node, addr, bootstrap, defaults }) {
  // An empty list, unlike `undefined`, keeps it away from its built-in bootstrap hosts. Without
  // `verify` it has no mutable items.
  const dht = new DHT({ bootstrap, verify, socket: tracedSocket(addr) })
  dht.on('warning', (warning) => console.error(`${addr}: ${warning.message}`))
  return new Promise((resolve, reject) => {
    dht.on('error', reject)
    const listening = () => {
      nodes.set(node, dht)
      resolve({ id: dht.nodeId.toString('hex') })
    }
    const { host, port } = endpoint(addr)
    if (defaults) dht.listen(listening)
    else dht.listen(port, host, listening)
  })
}

function stop (dht, { node }) {
  nodes.delete(node)
  return new Promise((resolve) => dht.destroy(() => resolve({})))
}

function addNode (dht, { addr }) {
  dht.addNode(endpoint(addr))
  return {}
}

function contacts (dht) {
  return { contacts: dht.nodes.toArray().length }
}

function announce (dht, { info_hash: infoHash, port, seed }) {
  if (seed) throw new Unsupported('bittorrent-dht knows no seed flag')
  return new Promise((resolve, reject) => {
    dht.announce(Buffer.from(infoHash, 'hex'), port, (failure, stored) => {
      if (failure) reject(failure)
      else resolve({ stored })
    })
  })
}

function getPeers (dht, { info_hash: infoHash }) {
  const wanted = Buffer.from(infoHash, 'hex')
  const found = new Set()
  const onPeer = (peer, from) => {
    if (wanted.equals(from)) found.add(`${peer.host}:${peer.port}`)
  }
  dht.on('peer', onPeer)
  return new Promise((resolve, reject) => {
    dht.lookup(wanted, (failure) => {
      dht.removeListener('peer', onPeer)
      if (failure) reject(failure)
      else resolve({ peers: [...found].sort() })
    })
  })
}

function put (dht, options) {
  return new Promise((resolve, reject) => {
    dht.put(options, (failure, target, stored) => {
      if (failure && failure.code >= 300 && failure.code < 400) {
        resolve({ stored: 0, refused: failure.code })
      } else if (failure) {
        reject(failure)
      } else {
        resolve({ target: target.toString('hex'), stored })
      }
    })
  })
}

function putImmutable (dht, { value }) {
  return put(dht, { v: Buffer.from(value, 'hex') })
}

function putMutable (dht, { seed, public_key: publicKey, salt, seq, cas, value }) {
  const options = {
    k: Buffer.from(publicKey, 'hex'),
    sign: signer(Buffer.from(seed, 'hex')),
    seq,
    v: Buffer.from(value, 'hex')
  }
  if (salt !== '') options.salt = Buffer.from(salt, 'hex')
  if (cas !== null) options.cas = cas
  return put(dht, options)
}

function get (dht, key, options) {
  return new Promise((resolve, reject) => {
    dht.get(key, { ...options, cache: false }, (failure, found) => {
      if (failure) reject(failure)
      else resolve(found)
    })
  })
}

async function getImmutable (dht, { target }) {
  const found = await get(dht, Buffer.from(target, 'hex'), {})
  return { value: found ? found.v.toString('hex') : null }
}

async function getMutable (dht, { public_key: publicKey, salt }) {
  const saltBytes = Buffer.from(salt, 'hex')
  const text = Buffer.concat([Buffer.from(publicKey, 'hex'), saltBytes])
  const target = crypto.createHash('sha1').update(text).digest()
  const found = await get(dht, target, salt === '' ? {} : { salt: saltBytes })
  if (!found) return { seq: null, value: null }
  return { seq: found.seq, value: found.v.toString('hex') }
}

const operations = {
  stop,
  contacts,
  add_node: addNode,
  announce,
  get_peers: getPeers,
  put_immutable: putImmutable,
  get_immutable: getImmutable,
  put_mutable: putMutable,
  get_mutable: getMutable
}

async function perform (request) {
  if (request.op === 'start') return start(request)
  const operation = operations[request.op]
  if (!operation) throw new Unsupported(`bittorrent-dht has no ${request.op}`)
  const dht = nodes.get(request.node)
  if (!dht) throw new Error(`node ${request.node} is not running`)
  return operation(dht, request)
}

async function answer (request) {
  try {
    return { id: request.id, ok: await perform(request) }
  } catch (failure) {
    if (failure instanceof Unsupported) return { id: request.id, unsupported: failure.message }
    return { id: request.id, error: String(failure) }
  }
}

const lines = readline.createInterface({ input: process.stdin })
lines.on('line', async (line) => {
  const reply = await answer(JSON.parse(line))
  process.stdout.write(JSON.stringify(reply) + '\n')
})
lines.on('close', () => process.exit(0))
