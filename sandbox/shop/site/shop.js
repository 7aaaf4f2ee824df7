"use strict";
(function () {
  const testMode = import.meta.env.VITE_IKHOKHA_TEST_MODE === "true";
  const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));

  if (testMode) document.getElementById("test-mode").hidden = false;

  const form = document.getElementById("buy");
  if (form) {
    const message = document.getElementById("message");
    const button = form.querySelector("button");
    let reference = newReference();

    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      button.disabled = true;
      message.textContent = "Opening the payment page ...";
      message.textContent = await buy();
      button.disabled = false;
    });

    async function buy() {
      // The same request again never makes a second payment, so a slow answer is asked for again.
      for (let attempt = 0; attempt < 3; attempt += 1) {
        let response;
        try {
          response = await fetch("/api/payments", {
            method: "POST",
            headers: { "Content-Type": "application/json" },
            body: JSON.stringify({
              reference,
              amount: Number(form.dataset.cents),
              currency: "ZAR",
              course: form.dataset.course,
            }),
          });
        } catch {
          await wait(2);
          continue;
        }
        if (response.ok) {
          const { paylinkUrl } = await response.json();
          if (new URL(paylinkUrl).protocol !== "https:") return "The payment page is not safe to open.";
          location.assign(paylinkUrl);
          return "Opening the payment page ...";
        }
        if (response.status === 409 || response.status === 502) {
          reference = newReference();
          return "The payment could not be started. Please try again.";
        }
        await wait(Math.min(Number(response.headers.get("Retry-After")) || 2, 5));
      }
      return "Payments are not possible right now. Please try again in a few minutes.";
    }
  }

  const enrolment = document.getElementById("enrolment");
  if (enrolment) showEnrolment(new URLSearchParams(location.search).get("reference"));

  async function showEnrolment(reference) {
    for (let attempt = 0; reference && attempt < 30; attempt += 1) {
      try {
        const response = await fetch("/api/enrolments/" + encodeURIComponent(reference));
        if (response.ok && (await response.json()).active) {
          enrolment.textContent = "Your course is active. Enjoy it!";
          return;
        }
      } catch {
        // The connection may be back in a second.
      }
      await wait(1);
    }
    enrolment.textContent = "Your payment is not confirmed yet. Your course becomes active as soon as it is.";
  }

  function newReference() {
    return "order-" + crypto.randomUUID();
  }
})();
