// Stytch's documented flow for a session that a backend started: updateSession with its tokens, then authenticate.
import { useEffect, useState } from 'react'
import { createRoot } from 'react-dom/client'
import { StytchProvider, createStytchClient, useStytch, useStytchSession, useStytchUser } from '@stytch/react'

const post = (path, body) =>
  fetch(path, {
    method: 'POST',
    headers: body && { 'Content-Type': 'application/json' },
    body: body && JSON.stringify(body),
  })

// hydrate gives the SDK the session that the backend keeps in cookies of its own.
async function hydrate(stytch) {
  const response = await post('/session/tokens')
  if (!response.ok) return
  const { session_token, session_jwt } = await response.json()
  stytch.session.updateSession({ session_token, session_jwt })
  await stytch.session.authenticate({ session_duration_minutes: 60 })
}

function App({ mode }) {
  const stytch = useStytch()
  const { user } = useStytchUser()
  const { session } = useStytchSession()
  const [backend, setBackend] = useState('')
  const [error, setError] = useState('')

  const askBackend = async () => {
    const response = await fetch('/api/me')
    const body = await response.json()
    setBackend(response.ok ? `${body.user} (${body.via})` : `${response.status} ${body.code}`)
  }
  const attempt = (action) => async () => {
    setError('')
    try {
      await action()
    } catch (err) {
      setError(err.message)
    }
    await askBackend()
  }
  const login = attempt(async () => {
    await post('/login', { as: 'ada' })
    await hydrate(stytch)
  })
  const logout = attempt(async () => {
    await stytch.session.revoke()
    await post('/session/revoke')
  })

  // A page that is opened anew: in shared mode the SDK has found its cookies already.
  useEffect(() => {
    attempt(async () => { if (!stytch.session.getSync()) await hydrate(stytch) })()
  }, [])

  return (
    <main>
      <h1>stytchhttp <small>React, {mode} cookies</small></h1>
      <dl>
        <dt>the browser SDK says</dt>
        <dd id="sdk">{user ? `${user.user_id}${session ? ', a session' : ''}` : 'nobody'}</dd>
        <dt>the backend says</dt>
        <dd id="backend">{backend || '…'}</dd>
      </dl>
      {error && <p id="error">{error}</p>}
      <p>
        <button id="login" onClick={login}>log in at the backend</button>
        <button id="logout" onClick={logout}>log out</button>
        <button id="ask" onClick={attempt(async () => {})}>ask the backend</button>
      </p>
    </main>
  )
}

const { publicToken, apiURL, mode } = await (await fetch('/config.json')).json()
const stytch = createStytchClient(publicToken, apiURL ? { endpoints: { testAPIURL: apiURL } } : undefined)
createRoot(document.getElementById('root')).render(
  <StytchProvider stytch={stytch}><App mode={mode} /></StytchProvider>,
)
