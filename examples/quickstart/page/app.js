// The page's script: calls routes, and draws each answer on the ladder.
const $ = (selector) => document.querySelector(selector)
const svg = (name, attributes, text) => {
  const node = document.createElementNS('http://www.w3.org/2000/svg', name)
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value)
  if (text !== undefined) node.textContent = text
  return node
}

// From the top, the dearest rung, to the ground.
const rungs = [
  ['remote', 'Stytch is asked'],
  ['exchanged', 'exchanged for a JWT before'],
  ['local', 'JWT verified by the public keys'],
  ['cache', 'this very JWT verified before'],
  ['refused', 'not let through'],
]
const left = 240, right = 610, top_ = 58, step = 80, spacing = 12
const y = (rung) => top_ + rungs.findIndex(([name]) => name === rung) * step
const history = { remote: [], exchanged: [], local: [], cache: [], refused: [] }

function drawLadder() {
  const ladder = $('#ladder')
  for (const x of [left - 12, right + 12]) ladder.append(svg('line', { class: 'rail', x1: x, x2: x, y1: 14, y2: y('cache') + 34 }))
  for (const [name, note] of rungs) {
    const ground = name === 'refused'
    ladder.append(svg('line', { class: ground ? 'cut' : 'rung', x1: left - 12, x2: right + 12, y1: y(name), y2: y(name) }))
    ladder.append(svg('text', { class: name, x: 8, y: y(name) - 2 }, name))
    ladder.append(svg('text', { class: 'note', x: 8, y: y(name) + 15 }, note))
    ladder.append(svg('text', { class: 'typical', x: 716, y: y(name) - 2, id: `typical-${name}` }, ''))
    ladder.append(svg('text', { class: 'note typical', x: 716, y: y(name) + 15, id: `count-${name}` }, ''))
    ladder.append(svg('g', { id: `dots-${name}` }))
  }
}

const duration = (ms) => (ms < 1 ? `${(ms * 1000).toFixed(ms < 0.01 ? 1 : 0)} µs` : `${ms.toFixed(1)} ms`)
const median = (list) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)]

// Dots stand in columns of three and push the oldest out on the left.
function addDot(rung, ms, title) {
  const times = history[rung]
  times.push(ms)
  const dots = $(`#dots-${rung}`), capacity = Math.floor((right - left) / spacing) * 3
  const dot = svg('circle', { class: rung, r: 4.5 })
  dot.append(svg('title', {}, title))
  dots.append(dot)
  while (dots.childElementCount > capacity) dots.firstElementChild.remove()
  ;[...dots.children].forEach((d, i) => {
    d.setAttribute('cx', left + 6 + Math.floor(i / 3) * spacing)
    d.setAttribute('cy', y(rung) - 11 - (i % 3) * spacing)
  })
  $(`#typical-${rung}`).textContent = duration(median(times))
  $(`#count-${rung}`).textContent = `${times.length} request${times.length > 1 ? 's' : ''}`
}

function addRow(route, answer, rung, ms) {
  $('#log .empty')?.remove()
  const row = document.createElement('tr')
  for (const [text, style] of [[route], [answer], [rung, `tag ${rung}`], [duration(ms)]]) {
    const cell = row.insertCell()
    cell.textContent = text
    if (style) cell.className = style
  }
  $('#log').prepend(row)
  while ($('#log').rows.length > 200) $('#log').deleteRow(-1)
}

const cookie = (name) => document.cookie.split('; ').find((c) => c.startsWith(name + '='))?.slice(name.length + 1) ?? ''

async function call(route, asToken) {
  const options = asToken
    ? { credentials: 'omit', headers: { Authorization: 'Bearer ' + cookie('stytch_session') } }
    : {}
  const response = await fetch(route, { cache: 'no-store', ...options })
  const body = await response.json()
  const ms = Number(/dur=([\d.]+)/.exec(response.headers.get('Server-Timing'))?.[1] ?? 0)
  const rung = response.ok ? body.via : 'refused'
  const answer = response.ok ? `${response.status} ${body.user}` : `${response.status} ${body.code}`
  addDot(rung, ms, `${route}: ${answer}, ${duration(ms)}`)
  addRow(route + (asToken ? ' (opaque token)' : ''), answer, rung, ms)
  return body
}

async function refresh() {
  const state = await (await fetch('/demo/state', { cache: 'no-store' })).json()
  $('#demo').hidden = !state.embedded
  $('#embedded-login').hidden = !state.embedded
  $('#password-login').hidden = state.embedded
  for (const [name, count] of Object.entries(state.calls ?? {})) $(`#calls-${name}`).textContent = count
  $('#down').classList.toggle('on', state.down)
}

function showWho(text, name) {
  $('#who').textContent = text
  if (name) $('#who').append(Object.assign(document.createElement('b'), { textContent: name }))
}

async function post(route, fields) {
  const response = await fetch(route, { method: 'POST', body: fields && new URLSearchParams(fields) })
  if (!response.ok) return showWho(await response.text())
  if (route === '/login') {
    const body = await call('/api/me')
    showWho('logged in as ', body.user)
  } else if (route === '/logout') showWho('not logged in')
}

document.addEventListener('click', async (event) => {
  const button = event.target.closest('button')
  if (!button || button.form?.id === 'password-login' && button.type === 'submit') return
  const { get, post: to, login, times } = button.dataset
  if (login) await post('/login', { as: login })
  if (to) await post(to)
  if (get) await Promise.all(Array.from({ length: Number(times ?? 1) }, () => call(get, 'token' in button.dataset)))
  await refresh()
})
$('#password-login').addEventListener('submit', async (event) => {
  event.preventDefault()
  await post('/login', new FormData(event.target))
  await refresh()
})

drawLadder()
refresh()
