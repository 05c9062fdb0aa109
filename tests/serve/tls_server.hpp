// SPDX-License-Identifier: MIT
// An HTTPS server whose certificate nobody has signed but itself.
#pragma once

#include <httplib.h>

#ifdef CPPHTTPLIB_OPENSSL_SUPPORT

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>

namespace crayon::test {

class tls_server {
 public:
  /// The certificate names `host`, such as "IP:127.0.0.1"; `answer` is a stream's.
  tls_server(const std::string& host, std::string answer, const std::string& name)
      : certificate_file_((std::filesystem::temp_directory_path() /
                           ("crayon-" + name + std::to_string(getpid()) + ".pem"))
                              .string()) {
    make_certificate(host);
    server_ = std::make_unique<httplib::SSLServer>(certificate_.get(), key_.get());
    server_->Post(".*", [this, answer](const httplib::Request&, httplib::Response& response) {
      ++requests_;
      response.set_content(answer, "text/event-stream");
    });
    port_ = server_->bind_to_any_port("127.0.0.1");
    thread_ = std::thread([this] { server_->listen_after_bind(); });
  }
  ~tls_server() {
    while (!server_->is_running()) std::this_thread::yield();
    server_->stop();
    thread_.join();
    std::remove(certificate_file_.c_str());
  }
  tls_server(const tls_server&) = delete;
  tls_server& operator=(const tls_server&) = delete;

  [[nodiscard]] std::string url() const { return "https://127.0.0.1:" + std::to_string(port_); }
  [[nodiscard]] const std::string& certificate_file() const { return certificate_file_; }
  [[nodiscard]] int requests() const { return requests_; }

 private:
  void make_certificate(const std::string& host) {
    key_.reset(EVP_EC_gen("P-256"));
    certificate_.reset(X509_new());
    X509* x = certificate_.get();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -60);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key_.get());
    X509_NAME* subject = X509_get_subject_name(x);
    const auto common = reinterpret_cast<const unsigned char*>("crayon test");
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, common, -1, -1, 0);
    X509_set_issuer_name(x, subject);
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, x, x, nullptr, nullptr, 0);
    X509_EXTENSION* names =
        X509V3_EXT_conf_nid(nullptr, &context, NID_subject_alt_name, host.c_str());
    X509_add_ext(x, names, -1);
    X509_EXTENSION_free(names);
    X509_sign(x, key_.get(), EVP_sha256());
    if (std::FILE* file = std::fopen(certificate_file_.c_str(), "w")) {
      PEM_write_X509(file, x);
      std::fclose(file);
    }
  }

  struct free_key {
    void operator()(EVP_PKEY* key) const noexcept { EVP_PKEY_free(key); }
  };
  struct free_certificate {
    void operator()(X509* certificate) const noexcept { X509_free(certificate); }
  };

  std::string certificate_file_;
  std::unique_ptr<EVP_PKEY, free_key> key_;
  std::unique_ptr<X509, free_certificate> certificate_;
  std::unique_ptr<httplib::SSLServer> server_;
  int port_ = 0;
  std::atomic<int> requests_{0};
  std::thread thread_;
};

}  // namespace crayon::test

#endif
