// The switches: each stores a wish by PUT /v1/telemetry, then the page is read anew, so that it shows what is in force.
"use strict";
// One that is held is decided elsewhere, and stays as the page has it.
for (const button of document.querySelectorAll("button[role=switch]:not(.held)")) {
  button.disabled = false;
  button.addEventListener("click", async () => {
    button.disabled = true;
    const on = button.getAttribute("aria-checked") !== "true";
    try {
      const answer = await fetch(new URL("/v1/telemetry", location.origin), {
        method: "PUT",
        headers: { "Content-Type": "application/json; charset=utf-8" },
        body: JSON.stringify({ [button.dataset.name]: on }),
      });
      if (!answer.ok) throw new Error((await answer.json()).message);
      sessionStorage.setItem("focus", button.id);
      location.reload();
    } catch (error) {
      const line = document.createElement("p");
      line.className = "warning";
      line.setAttribute("role", "alert");
      line.textContent = "Nothing was changed: " + error.message;
      button.closest("section").prepend(line);
      button.disabled = false;
    }
  });
}
document.getElementById(sessionStorage.getItem("focus"))?.focus();
sessionStorage.removeItem("focus");
