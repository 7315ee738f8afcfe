// Runs Stytch's Node SDK against the server that the environment names, one check a line: "ok NAME" or "not ok NAME: WHY".
import assert from 'node:assert/strict'
import stytch from 'stytch'

const { STYTCH_URL, STYTCH_PROJECT_ID, STYTCH_SECRET, TOKENS } = process.env
const { ada, gone, over, foreign } = JSON.parse(TOKENS)
const options = { project_id: STYTCH_PROJECT_ID, secret: STYTCH_SECRET, env: STYTCH_URL + '/' }
const client = new stytch.Client(options)
const minutes = (n) => new Date(Date.now() + n * 60_000)

// refused asserts that a call fails as Stytch's API says it would.
const refused = (call, status, type) =>
  assert.rejects(call, (err) => {
    assert.equal(err.status_code, status, String(err))
    assert.equal(err.error_type, type)
    assert.ok(err.request_id)
    return true
  })

const checks = {
  async 'authenticate by session token'() {
    const answer = await client.sessions.authenticate({ session_token: ada.session_token })
    assert.equal(answer.status_code, 200)
    assert.equal(answer.session.user_id, 'user-test-ada')
    assert.equal(answer.user.user_id, 'user-test-ada')
    assert.equal(answer.session_token, ada.session_token)
    assert.equal(answer.session_jwt.split('.').length, 3)
    assert.deepEqual(answer.session.custom_claims, { plan: 'gold' })
    assert.equal(answer.session.authentication_factors[0].type, 'magic_link')
  },
  async 'authenticate by session JWT'() {
    const answer = await client.sessions.authenticate({ session_jwt: ada.session_jwt })
    assert.equal(answer.session.user_id, 'user-test-ada')
  },
  async 'authenticate extends the session'() {
    const { session } = await client.sessions.authenticate({ session_token: ada.session_token, session_duration_minutes: 500 })
    assert.ok(Math.abs(new Date(session.expires_at) - minutes(500)) < 60_000)
  },
  async 'authenticate sets custom claims'() {
    const { session } = await client.sessions.authenticate({ session_token: ada.session_token, session_custom_claims: { seats: 3 } })
    assert.deepEqual(session.custom_claims, { plan: 'gold', seats: 3 })
  },
  async 'authenticate with an authorization check'() {
    const allowed = { resource_id: 'documents', action: 'write' }
    const { verdict } = await client.sessions.authenticate({ session_token: ada.session_token, authorization_check: allowed })
    assert.equal(verdict.authorized, true)
    assert.deepEqual(verdict.granting_roles, ['admin'])
    const refusedCheck = { resource_id: 'invoices', action: 'write' }
    await refused(client.sessions.authenticate({ session_token: ada.session_token, authorization_check: refusedCheck }),
      403, 'session_authorization_error')
  },
  async 'authenticateJwtLocal'() {
    const session = await client.sessions.authenticateJwtLocal({ session_jwt: ada.session_jwt })
    assert.equal(session.user_id, 'user-test-ada')
    assert.deepEqual(session.custom_claims, { plan: 'gold' })
    assert.deepEqual(session.roles, ['stytch_user', 'admin'])
  },
  async 'authenticateJwtLocal with an authorization check'() {
    const check = { resource_id: 'documents', action: 'read' }
    await client.sessions.authenticateJwtLocal({ session_jwt: ada.session_jwt, authorization_check: check })
    await assert.rejects(client.sessions.authenticateJwtLocal({
      session_jwt: ada.session_jwt, authorization_check: { resource_id: 'invoices', action: 'read' },
    }))
  },
  async 'authenticateJwtLocal refuses an expired JWT'() {
    await assert.rejects(client.sessions.authenticateJwtLocal({ session_jwt: ada.session_jwt, current_date: minutes(6) }))
  },
  async 'authenticateJwtLocal refuses a foreign JWT'() {
    await assert.rejects(client.sessions.authenticateJwtLocal({ session_jwt: foreign.session_jwt }))
  },
  async 'authenticateJwt is served locally'() {
    const answer = await client.sessions.authenticateJwt({ session_jwt: ada.session_jwt })
    assert.equal(answer.session.user_id, 'user-test-ada')
    assert.equal(answer.session_jwt, ada.session_jwt)
    assert.equal(answer.status_code, undefined)
  },
  async 'authenticateJwt falls back to the remote call'() {
    const answer = await client.sessions.authenticateJwt({ session_jwt: ada.session_jwt, max_token_age_seconds: 0 })
    assert.equal(answer.status_code, 200)
    assert.equal(answer.session_token, ada.session_token)
  },
  async 'get'() {
    const { sessions } = await client.sessions.get({ user_id: 'user-test-ada' })
    assert.equal(sessions.length, 1)
    assert.match(sessions[0].session_id, /^session-test-/)
  },
  async 'getJWKS'() {
    const { keys } = await client.sessions.getJWKS({ project_id: STYTCH_PROJECT_ID })
    assert.equal(keys[0].kty, 'RSA')
    assert.equal(keys[0].alg, 'RS256')
    assert.match(keys[0].kid, /^jwk-test-/)
  },
  async 'an unknown token'() {
    await refused(client.sessions.authenticate({ session_token: foreign.session_token }), 404, 'session_not_found')
  },
  async 'a revoked session'() {
    await refused(client.sessions.authenticate({ session_token: gone.session_token }), 404, 'session_not_found')
    await refused(client.sessions.authenticate({ session_jwt: gone.session_jwt }), 404, 'session_not_found')
  },
  async 'an expired session'() {
    await refused(client.sessions.authenticate({ session_token: over.session_token }), 404, 'session_not_found')
  },
  async 'a foreign JWT'() {
    await refused(client.sessions.authenticate({ session_jwt: foreign.session_jwt }), 400, 'jwt_invalid_claims')
  },
  async 'both arguments'() {
    await refused(client.sessions.authenticate(ada), 400, 'too_many_session_arguments')
  },
  async 'no argument'() {
    await refused(client.sessions.authenticate({}), 400, 'no_session_arguments')
  },
  async 'a wrong secret'() {
    const wrong = new stytch.Client({ ...options, secret: 'secret-test-wrong' })
    await refused(wrong.sessions.authenticate({ session_token: ada.session_token }), 401, 'unauthorized_credentials')
  },
  async 'revoke'() {
    const answer = await client.sessions.revoke({ session_token: ada.session_token })
    assert.equal(answer.status_code, 200)
    await refused(client.sessions.authenticate({ session_token: ada.session_token }), 404, 'session_not_found')
    await refused(client.sessions.revoke({ session_token: ada.session_token }), 404, 'session_not_found')
    const { sessions } = await client.sessions.get({ user_id: 'user-test-ada' })
    assert.equal(sessions.length, 0)
    // What we rely on being told apart: it still verifies locally.
    await client.sessions.authenticateJwtLocal({ session_jwt: ada.session_jwt })
  },
}

for (const [name, check] of Object.entries(checks)) {
  try {
    await check()
    console.log(`ok ${name}`)
  } catch (err) {
    console.log(`not ok ${name}: ${String(err.message ?? err).replaceAll('\n', ' ')}`)
  }
}
console.log('done')
