// Stytch's SDK, unmodified, and a client of it as window.stytch.
import { StytchClient } from '@stytch/vanilla-js/headless'

const { publicToken, apiUrl: apiURL } = document.currentScript.dataset
window.stytch = new StytchClient(publicToken, { endpoints: { testAPIURL: apiURL } })
