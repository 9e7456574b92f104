/** Logging in where the service has a token. */

import { asApiError } from "./api.js";
import { byId } from "./dom.js";
import { sentence } from "./format.js";

export class Session {
  #form = byId("login");
  #problem = byId("login-problem");
  #logout = byId("logout");

  /** @param {import("./api.js").Api} api @param {() => void} onLogin @param {() => void} onLogout */
  constructor(api, onLogin, onLogout) {
    this.api = api;
    this.onLogin = onLogin;
    this.#form.addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      void this.#login();
    });
    this.#logout.addEventListener("click", async () => {
      await api.logout();
      onLogout();
    });
  }

  /** @returns {Promise<{allowed: boolean, version: string}>} */
  async begin() {
    const { token_required, authenticated, version } = await this.api.session();
    this.#logout.hidden = !(token_required && authenticated);
    return { allowed: !token_required || authenticated, version };
  }

  ask() {
    document.body.classList.add("locked");
    this.#logout.hidden = true;
    if (!this.#form.hidden) return;
    this.#form.hidden = false;
    byId("token").focus();
  }

  async #login() {
    const field = byId("token");
    this.#problem.textContent = "";
    try {
      await this.api.login(field.value);
    } catch (error) {
      const { message, remedy } = asApiError(error);
      this.#problem.textContent = `${sentence(message)} ${remedy}`;
      field.select();
      return;
    }
    field.value = "";
    this.#form.hidden = true;
    this.#logout.hidden = false;
    document.body.classList.remove("locked");
    this.onLogin();
  }
}
